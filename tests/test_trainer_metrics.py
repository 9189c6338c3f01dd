"""Our numbers against torch-fidelity's and torchmetrics' on the same features, and against what can be worked out."""

import numpy as np
import pytest
import torch

from curation.errors import CurationError
from curation.models.patch_torchvision import patch_torchvision
from curation.trainer import metrics

patch_torchvision()
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402


def features(n: int, dims: int = 64, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dims, dims)) / dims**0.5
    return (np.abs(rng.standard_normal((n, dims)) @ mixing) + shift).astype(np.float32)


@pytest.mark.parametrize(("n", "m", "dims"), [(500, 400, 64), (300, 300, 200), (50, 60, 128)])
def test_frechet_is_torch_fidelitys(n: int, m: int, dims: int) -> None:
    """Also with fewer pictures than dimensions, where covariances are singular."""
    a, b = features(n, dims), features(m, dims, seed=1, shift=0.1)
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert metrics.frechet_distance(a, b) == pytest.approx(theirs, rel=1e-3)


def test_frechet_is_torchmetrics() -> None:
    from torchmetrics.image.fid import _compute_fid

    a, b = features(500), features(400, seed=1, shift=0.1)
    parts = [(torch.from_numpy(x.mean(0)).double(), torch.from_numpy(np.cov(x, rowvar=False))) for x in (a, b)]
    theirs = _compute_fid(parts[0][0], parts[0][1], parts[1][0], parts[1][1])
    assert metrics.frechet_distance(a, b) == pytest.approx(float(theirs), rel=1e-3)


def test_frechet_of_known_gaussians() -> None:
    a = np.array([[-1.0], [1.0]] * 50)
    assert metrics.frechet_distance(a, 3 * a + 5) == pytest.approx(25 + a.var(ddof=1) * (3 - 1) ** 2)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_torch_fidelitys() -> None:
    """Mean and deviation over the very same subsets."""
    a, b = features(300), features(250, seed=1, shift=0.1)
    theirs = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=10, kid_subset_size=100, verbose=False
    )
    expected = (theirs["kernel_inception_distance_mean"], theirs["kernel_inception_distance_std"])
    assert metrics.kernel_distance(a, b, subsets=10, size=100) == pytest.approx(expected, rel=1e-3)


def test_kernel_distance_is_torchmetrics() -> None:
    """Its subsets come from torch's generator: with all features in each there is but one."""
    from torchmetrics.image.kid import poly_mmd

    a, b = features(200), features(200, seed=1, shift=0.1)
    theirs = poly_mmd(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    assert metrics.kernel_distance(a, b, subsets=2)[0] == pytest.approx(float(theirs), rel=1e-6)


def test_kernel_distance_is_unbiased() -> None:
    """Two halves of the same pictures: around zero, on both sides of it."""
    values = [
        metrics.kernel_distance(features(200, seed=s)[:100], features(200, seed=s)[100:], 1)[0] for s in range(20)
    ]
    assert min(values) < 0 < max(values)


def test_inception_score_is_torch_fidelitys() -> None:
    logits = np.random.default_rng(0).standard_normal((503, 30)).astype(np.float32) * 3
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    expected = (theirs["inception_score_mean"], theirs["inception_score_std"])
    assert metrics.inception_score(logits) == pytest.approx(expected, rel=1e-6)


def test_inception_score_of_sure_and_of_unsure_pictures() -> None:
    sure = np.eye(10)[np.arange(1000) % 10] * 100
    assert metrics.inception_score(sure, splits=1)[0] == pytest.approx(10)
    assert metrics.inception_score(np.zeros((100, 10)))[0] == pytest.approx(1)


def test_cmmd_by_hand() -> None:
    """Two points: the kernel between orthogonal unit vectors at sigma 10 is exp(-2 / 200)."""
    a, b = np.array([[2.0, 0], [3, 0]]), np.array([[0, 1.0], [0, 5]])
    assert metrics.cmmd(a, b) == pytest.approx(1000 * (1 + 1 - 2 * np.exp(-0.01)))
    assert metrics.cmmd(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("lean", [0.5, 0.0, -5.0])
def test_clip_score_is_torchmetrics(lean: float) -> None:
    """On the same features of pictures and captions, whose cosines are of both signs."""
    from torchmetrics.multimodal import CLIPScore

    images, texts = features(30, seed=2) - 0.4, features(30, seed=3) + lean

    class Given(torch.nn.Module):
        """Stands where torchmetrics wants a CLIP: what it would have computed is known."""

        config = None

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(images)

        def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(texts)

    def processor(**_: object) -> dict[str, torch.Tensor]:
        return dict.fromkeys(("pixel_values", "input_ids", "attention_mask"), torch.zeros(1))

    theirs = CLIPScore(lambda: (Given(), processor))
    theirs.update([torch.zeros(3, 8, 8)] * 30, ["a"] * 30)
    unit_images, unit_texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    ours = metrics.clip_score((unit_images * unit_texts).sum(1))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3) and (ours > 0) == (lean > -5)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "features of 3 and 4 dimensions cannot be compared"),
        (np.zeros((1, 3)), np.zeros((5, 3)), r"\[N, D\] with N of at least 2, these have the shape \(1, 3\)"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "features hold NaN"),
    ],
)
def test_what_cannot_be_measured(a: np.ndarray, b: np.ndarray, reason: str) -> None:
    with pytest.raises(CurationError, match=reason):
        metrics.frechet_distance(a, b)
