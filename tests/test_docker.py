"""The images and the cluster's description agree with the versions that are proven together."""

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "cluster.yaml").read_text())
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_operator_is_told_the_version_that_the_images_hold() -> None:
    assert CLUSTER["spec"]["rayVersion"] == PINNED["ray"]


def test_a_pod_asks_for_what_it_may_use_and_groups_may_have_their_size() -> None:
    groups = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["image"] in ("REGISTRY/curation:cpu", "REGISTRY/curation:gpu")
    for group in groups[1:]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_an_image_has_what_kuberay_calls_and_installs_pinned_versions(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    assert re.search(r"apt-get install[^\n]*\bwget\b", text)
    assert re.search(r"pip install[^\n]*-c constraints.txt[^\n]*ray\[default\]", text)


def test_what_the_dashboard_needs_is_pinned() -> None:
    needed = [line for line in requires("ray") or [] if re.search(r"extra == ['\"]default['\"]", line)]
    names = {canonical(re.split(r"[ <>=!~;\[(]", line, maxsplit=1)[0]) for line in needed}
    assert len(names) > 5 and names <= {canonical(name) for name in PINNED}
