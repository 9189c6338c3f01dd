"""Loads a model of transformers from a folder of safetensors, the same way for captioners and text encoders."""

from pathlib import Path
from typing import Any


def pretrained(factory: Any, folder: str | Path, dtype: Any) -> tuple[Any, list[str]]:
    """The model that a class of transformers makes of a local folder, on the CPU; and the weights that do not fit.

    transformers leaves weights that a file lacks at random values, and only warns. Raises what transformers raises.
    """
    model, report = factory.from_pretrained(
        str(folder),
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    return model, sorted([*report["missing_keys"], *report["mismatched_keys"]])
