"""Fixtures that several test files share."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each test process would otherwise compute on all cores, and the processes would wait for each other's threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says something of the machine's load, and nothing of the code.
hypothesis.settings.register_profile("any load", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any load")

RAY = {
    "test_cluster.py",
    "test_engine.py",
    "test_engine_gpus.py",
    "test_manifests_images.py",
    "test_ray_address.py",
    "test_ray_servers.py",
    "test_trainer_train.py",
    "test_video.py",
}
"""Files that start Ray. A cluster fills two cores by itself, so all of them run in one of the test processes."""

SLOW = RAY | {
    "test_demo_models.py",
    "test_encode.py",
    "test_engine_choice.py",
    "test_evil.py",
    "test_holes.py",
    "test_image_text.py",
    "test_laion.py",
    "test_lock.py",
    "test_manifests_video.py",
    "test_quickstart.py",
    "test_repair.py",
    "test_report_page.py",
    "test_rerun.py",
    "test_sandbox.py",
    "test_second_try.py",
    "test_shots.py",
    "test_source_pages.py",
    "test_source_parquet.py",
    "test_storage_s3.py",
    "test_trainer_features.py",
    "test_trainer_sample.py",
    "test_video_accounts.py",
    "test_video_memory.py",
    "test_video_reader.py",
    "test_video_sandbox.py",
}
"""Files that take ten seconds and more: `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Marks by file. A file's tests share its fixtures, so they run in one process; so do all that start Ray."""
    for item in items:
        for name, files in (("ray", RAY), ("slow", SLOW)):
            if item.path.name in files:
                item.add_marker(name)
        item.add_marker(pytest.mark.xdist_group("ray" if item.path.name in RAY else item.path.name))


@pytest.fixture(scope="session")
def shared_corpus() -> Path:
    """The folder ../shared/corpus beside the repository (its README says what is in it); skips without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "corpus"
    if not (folder / "captions.jsonl").is_file():
        pytest.skip("needs ../shared/corpus")
    return folder


@pytest.fixture
def bytes_read() -> Callable[[], int]:
    """How many bytes this process has asked files for so far (Linux); skips elsewhere."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("needs /proc/self/io")
    return lambda: int(counters.read_text().split()[1])
