"""shards/index.json: what the shards are, how their latents were made, and how to undo it.

`vae` and `statistics` are null in shards of media alone, `text` and `null_text` where captions are words alone;
`text_parts` has further text parts by name, absent where there are none: the keys of `text`, and `null` as `null_text`.
`media` says how media were written, null or absent where there are none.
"""

import json
from typing import Any

from curation.errors import CurationError
from curation.shards import described
from curation.shards.sample import FORMAT_VERSION
from curation.stores import jsontext
from curation.stores.storage import Store

NAME = "index.json"
REQUIRED = (
    "format_version",
    "shards",
    "vae",
    "text",
    "null_text",
    "preprocessing",
    "config_hash",
    "statistics",
    "samples",
    "nan_count",
)
NESTED = {
    "vae": ("id", "sha256", "channels", "spatial_factor", "temporal_factor", "latents_mean", "latents_std"),
    "text": ("id", "sha256", "dimensions"),
    "null_text": ("shape", "fp16"),
    "statistics": ("normalized_rms",),
}
ENTRY = ("path", "bucket", "samples", "bytes", "sha256")


def write(store: Store, index: dict[str, Any]) -> None:
    """Commit the index of a shards/ folder; the same shards give the same bytes."""
    store.write(NAME, (json.dumps(index, indent=1, sort_keys=True) + "\n").encode())


def read(store: Store) -> dict[str, Any]:
    """The index. Raises CurationError with a sentence where it is missing, damaged or of another version."""
    if not store.exists(NAME):
        raise CurationError(f"{store.root} holds no {NAME}: it is no folder of shards, or its run did not end")
    try:
        index = jsontext.parse_object(store.read(NAME))
    except ValueError as error:
        raise CurationError(f"{store.root}/{NAME} is damaged ({error}): run the manifest again") from error
    missing = _missing(index)
    if missing:
        raise CurationError(f"{store.root}/{NAME} lacks {', '.join(missing)}: it was not written by this program")
    if index["format_version"] != FORMAT_VERSION:
        raise CurationError(
            f"{store.root} has shards of format {str(index['format_version'])[:40]}, this reader knows {FORMAT_VERSION}"
        )
    described.check(index, f"{store.root}/{NAME}")
    return index


def _missing(index: dict[str, Any]) -> list[str]:
    """The keys that an index lacks, such as `nan_count`, `vae.channels` and `shards[3].bytes`."""
    if missing := [key for key in REQUIRED if key not in index]:
        return missing
    for part, keys in NESTED.items():
        missing += [f"{part}.{key}" for key in keys if isinstance(index[part], dict) and key not in index[part]]
    for number, entry in enumerate(index["shards"] if isinstance(index["shards"], list) else ()):
        missing += [f"shards[{number}].{key}" for key in ENTRY if isinstance(entry, dict) and key not in entry]
    return missing[:20]
