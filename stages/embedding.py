"""A picture's embedding: its direction in a backbone's feature space, for semantic duplicates, search and copies."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.models.registry import open_model
from curation.pixels import over_stills
from curation.stage import Batch, Column, Columns, ModelStage, Resources


class Embedding(ModelStage):
    """One unit vector a picture; the cosine of two says how alike they look (1 the same picture).

    Embedded: EfficientNet-lite0, 1280 values. Production: an open_clip image tower (512 for ViT-B-32). Beside it a
    short vector of its own for near-copies, always from EfficientNet-lite0: see weights/copy_head.md.
    """

    name = "embedding"
    version = 2
    reads = ("pixels",)
    writes = {
        # The length is the model's, known only when it is open: a list type serves every backend.
        "embedding": Column(
            pa.list_(pa.float16()), "the picture's features, unit length; as many values as the model has"
        ),
        "copy": Column(
            pa.list_(pa.float16()), "where copies of a picture lie close together, unit length; for `duplicates: near`"
        ),
    }
    resources = Resources(memory_mb=600, milliseconds=34)
    role = "image_embedding"

    def load(self) -> None:
        super().load()
        # On the stage's own device: at 70 ms a picture on a core it would starve a GPU that embeds with another model.
        # Where the embedding is EfficientNet's, both look at one forward pass.
        self.copies = open_model("copy", "embedded", self.params.device or "cpu")

    def run(self, batch: Batch) -> Columns:
        return {
            name: [vector.astype("float16") for vector in over_stills(batch["pixels"], model.embed, _direction)]
            for name, model in (("embedding", self.model), ("copy", self.copies))
        }


def _direction(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean direction of a clip's frames, unit length."""
    total = np.sum(vectors, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
