"""From raw images, videos and captions to training-ready latent shards, every record accounted for.

`curation.run`, `select`, `open_scores`, `open_selection` and `Shards` are what a notebook wants; see `curation.api`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Shards", "open_scores", "open_selection", "run", "select"]

if TYPE_CHECKING:
    from curation.api import Shards, open_scores, open_selection, run, select


def __getattr__(name: str) -> Any:
    """The names of `curation.api`, loaded when they are first used: `import curation` stays light."""
    if name in __all__:
        from curation import api

        return getattr(api, name)
    raise AttributeError(f"module 'curation' has no attribute '{name}'")
