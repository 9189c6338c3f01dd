"""The command that adds an extra, for each way of installing the program, and what `curate doctor` finds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curation import install
from curation.install import EXTRAS, command, missing

ROOT = Path(__file__).resolve().parents[1]
Origin = Callable[[dict[str, object] | None], None]


@pytest.fixture
def came_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Origin:
    """Makes the program look installed into site-packages, with this direct_url.json (None for an index)."""

    class Installed:
        def __init__(self, origin: dict[str, object] | None) -> None:
            self.text = json.dumps(origin) if origin else None

        def read_text(self, name: str) -> str | None:
            return self.text if name == "direct_url.json" else None

    def installed(origin: dict[str, object] | None) -> None:
        monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages" / "curation" / "install.py"))
        monkeypatch.setattr(install, "distribution", lambda name: Installed(origin))
        monkeypatch.setattr(install, "version", lambda name: "0.1.0")

    return installed


def test_from_a_clone_the_clone_is_installed_with_its_pins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert command("video").endswith("install -c constraints.txt -e '.[video]'")
    monkeypatch.chdir(tmp_path)
    assert command("video").endswith(f"install -c {ROOT}/constraints.txt -e '{ROOT}[video]'")


def test_from_a_git_url_the_same_commit_is_installed(came_from: Origin) -> None:
    vcs = {"vcs": "git", "requested_revision": "main", "commit_id": "0a1b2c"}
    came_from({"url": "https://example.org/curation.git", "vcs_info": vcs})
    assert command("train").endswith("install 'curation[train] @ git+https://example.org/curation.git@0a1b2c'")


def test_from_a_wheel_the_same_file_is_installed(came_from: Origin) -> None:
    came_from({"url": "file:///tmp/curation-0.1.0-py3-none-any.whl", "archive_info": {}})
    assert command("video").endswith("install 'curation[video] @ file:///tmp/curation-0.1.0-py3-none-any.whl'")


def test_from_a_folder_that_was_copied_the_folder_is_installed(came_from: Origin) -> None:
    came_from({"url": "file:///src/a%20clone", "dir_info": {}})
    assert command("video").endswith("install '/src/a clone[video]'")


def test_from_an_index_the_same_version_is_installed(came_from: Origin) -> None:
    came_from(None)
    assert command("video").endswith("install 'curation[video]==0.1.0'")


def test_pip_is_named_so_that_a_shell_finds_the_one_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")
    assert command("eval").startswith("pip install ")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command("eval").startswith(f"{sys.executable} -m pip install ")


def test_only_modules_of_extras_have_a_command() -> None:
    assert (
        missing("transformers.models")
        == f"the package transformers is not installed; to install it: {command('production')}"
    )
    assert missing("json") is None and missing(None) is None


def test_every_extra_that_is_named_exists() -> None:
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(known)
    table = (ROOT / "README.md").read_text()
    assert [name for name in known if f"| `{name}`" not in table] == []


def curate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "curation", *arguments], capture_output=True, text=True, env=os.environ | environment
    )


def test_the_version_is_the_packages() -> None:
    done = curate("--version")
    assert done.returncode == 0 and done.stdout == "curation 0.1.0\n"


def test_the_doctor_finds_this_machine_fit() -> None:
    done = curate("doctor", RAY_ADDRESS="")
    assert done.returncode == 0, done.stderr
    for name in ("Python", "packages", "extra video", "GPU", "Ray", "disk here", "model image_text"):
        assert name in done.stdout


def test_the_doctor_names_a_dead_cluster_and_the_fix() -> None:
    done = curate("doctor", RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 1 and "unset RAY_ADDRESS" in done.stdout and "fixed first: Ray" in done.stderr
