"""Our numbers against torch-fidelity's and torchmetrics' on the same features, and against what can be worked out."""

import numpy as np
import pytest
import torch

from curation.errors import CurationError
from curation.models.torchvision_mend import mend
from curation.trainer import metrics

mend()
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
    a, b = features(300), features(300, seed=1, shift=0.1)
    theirs = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=1, kid_subset_size=300, rng_seed=0, verbose=False
    )
    ours, spread = metrics.kernel_distance(a, b, subsets=1, size=300)
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3) and spread == 0


def test_kernel_distance_is_unbiased() -> None:
    """Two halves of the same pictures: around zero, on both sides of it."""
    values = [
        metrics.kernel_distance(features(200, seed=s)[:100], features(200, seed=s)[100:], 1)[0] for s in range(20)
    ]
    assert min(values) < 0 < max(values)


def test_inception_score_is_torch_fidelitys() -> None:
    logits = np.random.default_rng(0).standard_normal((500, 30)).astype(np.float32) * 3
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    one = isc_features_to_metric(torch.from_numpy(logits), splits=1, shuffle=False)
    assert metrics.inception_score(logits, splits=1)[0] == pytest.approx(one["inception_score_mean"], rel=1e-3)
    assert metrics.inception_score(logits)[0] == pytest.approx(theirs["inception_score_mean"], rel=0.05)


def test_inception_score_of_sure_and_of_unsure_pictures() -> None:
    sure = np.eye(10)[np.arange(1000) % 10] * 100
    assert metrics.inception_score(sure)[0] == pytest.approx(10, rel=0.01)
    assert metrics.inception_score(np.zeros((100, 10)))[0] == pytest.approx(1)


def test_cmmd_by_hand() -> None:
    """Two points: the kernel between orthogonal unit vectors at sigma 10 is exp(-2 / 200)."""
    a, b = np.array([[2.0, 0], [3, 0]]), np.array([[0, 1.0], [0, 5]])
    assert metrics.cmmd(a, b) == pytest.approx(1000 * (1 + 1 - 2 * np.exp(-0.01)))
    assert metrics.cmmd(a, a) == pytest.approx(0, abs=1e-9)


def test_clip_score_counts_opposites_as_nothing() -> None:
    assert metrics.clip_score(np.array([0.3, -0.5])) == pytest.approx(15)


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
