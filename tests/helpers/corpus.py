"""A small corpus of generated pictures."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_corpus(folder: Path, count: int, odd: dict[int, tuple[int, int]] | None = None) -> Path:
    """`count` textured pictures with captions; `odd` gives some of them another size. Returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "captions.jsonl").open("w") as table:
        for i in range(count):
            width, height = (odd or {}).get(i, (96 + i % 5 * 8, 80))
            values = np.random.default_rng(i).integers(70, 190, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC).save(
                folder / f"{i:04d}.jpg", quality=90
            )
            table.write(
                json.dumps({"file": f"{i:04d}.jpg", "caption": f"a pattern with the number {i}", "kind": "ab"[i % 2]})
                + "\n"
            )
    return folder / "captions.jsonl"
