"""Standardized pixels -> a VAE's raw posterior, in the precision that the manifest says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.manifest import EncodeSection
from curation.shards.sample import Halfs
from curation.stage import sentence
from curation.threads import one_thread

Posterior = tuple[Halfs, Halfs | None]


def posteriors(
    vae: Any, name: str, pictures: Sequence[NDArray[np.uint8]], encode: EncodeSection, device: str = "cpu"
) -> Iterator[Posterior]:
    """uint8 [(T,) H, W, 3] each -> raw mean and log-variance, fp16 [C, t, h, w]; constant ones [C, 1, 1, 1].

    On a CPU one by one: that costs nothing, and no convolution's choice of algorithm can make a latent
    depend on its neighbours in the batch. Raises CurationError where the VAE, called `name`, refuses them.
    """
    size = 1 if device == "cpu" else max(1, len(pictures))
    for batch in (pictures[i : i + size] for i in range(0, len(pictures), size)):
        means, logvars = _posterior(vae, name, np.stack(batch), encode, device)
        for i in range(len(batch)):
            yield _half(means[i]), None if logvars is None else _half(_spatially_constant(logvars[i]))


def _posterior(vae: Any, name: str, pixels: NDArray[np.uint8], encode: EncodeSection, device: str) -> tuple[Any, Any]:
    """uint8 [B, (T,) H, W, 3] -> float32 mean and log-variance (None where it is not stored) [B, C, (t,) h, w]."""
    with one_thread(), in_precision(encode.precision, device):
        values = in_range(pixels)
        try:
            mean, logvar = vae.encode(values.to(device))
        except (RuntimeError, ValueError) as error:
            raise CurationError(f"the VAE {name} cannot encode {tuple(values.shape)}: {sentence(error)}") from error
    return mean.float(), logvar.float().clamp(-30, 20) if logvar is not None and encode.logvar else None


def in_range(pixels: NDArray[np.uint8]) -> Any:
    """uint8 [B, (T,) H, W, 3] -> float32 [B, 3, (T,) H, W] in [-1, 1].

    In fp32 whatever the precision: in bf16 the levels of an 8-bit picture lie up to 0.004 off.
    """
    import torch

    # contiguous: the last bit of a convolution depends on the memory layout
    return torch.from_numpy(pixels).movedim(-1, 1).contiguous().float() / 127.5 - 1


@contextmanager
def in_precision(precision: str, device: str) -> Iterator[None]:
    """fp32 as it is; bf16 by autocast: weights stay fp32, convolutions and products run in bf16, norms in fp32."""
    import torch

    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        yield


def _half(tensor: Any) -> Halfs:
    """fp16 with a time axis: [C, h, w] -> [C, 1, h, w]; a clip has its own."""
    with np.errstate(over="ignore"):  # becomes infinite, which the caller looks for
        values = tensor.cpu().numpy().astype(np.float16)
    return values if values.ndim == 4 else values[:, None]  # type: ignore[no-any-return]


def _spatially_constant(logvar: Any) -> Any:
    """[C, (t,) h, w], or [C, (1,) 1, 1] where that says the same."""
    corner = logvar.flatten(1)[:, 0].view(-1, *[1] * (logvar.ndim - 1))
    return corner if bool((logvar == corner).all()) else logvar
