"""Any VAE as encoding sees it: standardized pixels in, raw posteriors out, wherever the VAE computes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.inference.client import connect
from curation.inference.network import Precision, Signature, Spec
from curation.inference.torch_network import TorchNetwork
from curation.models.registry import open_model
from curation.shards.sample import Halfs
from curation.stage import sentence

Posterior = tuple[Halfs, Halfs | None]
BATCH_PIXELS = 32 * 256 * 256
"""Of a batch on a GPU, over all frames. On an H200, SD's VAE gave the same bits in every place of a batch of 32
pictures of 256 px, and not of 64."""
LARGEST_BATCH = 32
CLIPS = 4
"""So many clips may be in a batch beyond BATCH_PIXELS: encoders of clips hold a few frames of each at a time."""


class Vae:
    """The front. `spec` is the manifest's; `device` "cpu" or "cuda"; `precision` fp32 or bf16.

    channels, spatial_factor, temporal_factor, latents_mean, latents_std are the VAE's own.
    """

    def __init__(self, spec: str, device: str = "cpu", precision: Precision = "fp32") -> None:
        self.spec = spec
        self.network = connect(Spec(f"{__name__}:VaeNetwork", spec, device, precision))

    def posteriors(self, pictures: Sequence[NDArray[np.uint8]], logvar: bool = True) -> list[Posterior]:
        """uint8 [(T,) H, W, 3] each -> raw mean and log-variance (None where it is not wanted or there is none).

        Both fp16 [C, t, h, w]; a log-variance that is the same everywhere [C, 1, 1, 1]. Raises CurationError where the
        VAE refuses them.
        """
        answers = self.network.run("encode", [(picture,) for picture in pictures])
        return [_posterior(mean, spread[0] if logvar and spread else None) for mean, *spread in answers]

    def decode(self, latents: NDArray[Any]) -> NDArray[np.float32]:
        """Raw latents [C, (t,) h, w] -> float32 [3, (T,) H, W], about -1 to 1."""
        ((pixels,),) = self.network.run("decode", [(latents.astype(np.float32),)])
        return pixels


class VaeNetwork(TorchNetwork):
    """A backend of the role `vae`, which the argument names as a manifest does.

    Calls: `encode`, uint8 [(T,) H, W, 3] -> mean and log-variance, fp16 [C, (t,) h, w]; `decode`, float32 latents ->
    float32 pixels.
    """

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        import torch

        super().__init__(argument, device, precision)
        self.vae = open_model("vae", argument, self.device.type)
        self.lowered = self.on_gpu and precision == "bf16" and hasattr(self.vae, "lower")
        if self.lowered:
            self.vae.lower(torch.bfloat16)
            if encoder := getattr(self.vae, "one_graph", None):
                self.compiled(encoder)

    def batch_rows(self, signature: Signature) -> int:
        """One on a CPU: larger batches are no faster there, and a convolution's algorithm depends on them."""
        if not self.on_gpu or signature.call != "encode":
            return 1
        *frames, height, width, _ = signature.shapes[0]
        fit = BATCH_PIXELS // (height * width)
        return max(1, min(CLIPS, fit) if frames else min(LARGEST_BATCH, fit))

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        import torch

        half = self.precision == "bf16" and call == "encode" and not self.lowered
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            try:
                if call == "decode":
                    return [self.vae.decode(tensors[0]).float()]
                mean, logvar = self.vae.encode(in_range(tensors[0]))
            except ValueError as error:
                shape = tuple(tensors[0].shape)
                raise CurationError(f"the VAE {self.argument} cannot {call} {shape}: {sentence(error)}") from error
        spread = [] if logvar is None else [logvar.float().clamp(-30, 20).half()]
        return [mean.float().half(), *spread]


def in_range(pixels: Any) -> Any:
    """A tensor uint8 [B, (T,) H, W, 3] -> float32 [B, 3, (T,) H, W] in [-1, 1].

    In fp32 whatever the precision: in bf16 the levels of an 8-bit picture lie up to 0.004 off.
    """
    # contiguous: the last bit of a convolution depends on the memory layout
    return pixels.movedim(-1, 1).contiguous().float() / 127.5 - 1


def _posterior(mean: Halfs, logvar: Halfs | None) -> Posterior:
    return _timed(mean), None if logvar is None else _timed(_constant(logvar))


def _timed(values: Halfs) -> Halfs:
    """With a time axis: [C, h, w] -> [C, 1, h, w]; a clip has its own."""
    return values if values.ndim == 4 else values[:, None]


def _constant(values: Halfs) -> Halfs:
    """[C, (t,) h, w], or [C, (1,) 1, 1] where that says the same."""
    corner = values.reshape(len(values), -1)[:, :1].reshape(-1, *[1] * (values.ndim - 1))
    return corner if bool((values == corner).all()) else values
