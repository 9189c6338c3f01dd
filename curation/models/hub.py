"""Whether weights can be had from the Hugging Face hub, found out without downloading them."""

from collections.abc import Sequence
from pathlib import Path


def hub_problem(repository: str, files: Sequence[str] = ()) -> str | None:
    """Why `repository` cannot be had, as a sentence; None when it can.

    Any of `files` in the local cache is enough; otherwise the hub is asked, for at most ten seconds.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
            return None
        HfApi().model_info(repository, timeout=10)
    except HFValidationError:
        return f"'{repository}' is neither a path here nor a hub id"
    except RepositoryNotFoundError:
        return f"the hub has no '{repository}', or it needs a login"
    except Exception as error:  # noqa: BLE001 (its HTTP client, and so its errors, differ between versions)
        return (
            f"'{repository}' is not in the local cache and the hub cannot be reached "
            f"({type(error).__name__}); give a path to the weights, or choose `embedded`, which needs no hub"
        )
    return None


def commit_of(repository: str, files: Sequence[str]) -> str:
    """The commit that the repository's main branch stands for here: that of the cached file, otherwise the hub's."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    for file in files:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached).relative_to(Path(cached).parents[1 + file.count("/")]).parts[0]
    return str(HfApi().model_info(repository, timeout=10).sha)
