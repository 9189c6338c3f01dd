"""A picture's embedding: its direction in a backbone's feature space, for semantic duplicates and search."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.pixels import over_stills
from curation.stage import Batch, Column, Columns, ModelStage, Resources


class Embedding(ModelStage):
    """One unit vector a picture; the cosine of two says how alike they look (1 the same picture).

    Embedded: EfficientNet-lite0, 1280 values. Production: an open_clip image tower (512 for ViT-B-32).
    """

    name = "embedding"
    reads = ("pixels",)
    writes = {
        # The length is the model's, known only when it is open: a list type serves every backend.
        "embedding": Column(
            pa.list_(pa.float16()), "the picture's features, unit length; as many values as the model has"
        ),
    }
    resources = Resources(memory_mb=600, milliseconds=34)
    role = "image_embedding"

    def run(self, batch: Batch) -> Columns:
        vectors = over_stills(batch["pixels"], self.model.embed, _direction)
        return {"embedding": [vector.astype("float16") for vector in vectors]}


def _direction(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean direction of a clip's frames, unit length."""
    total = np.sum(vectors, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
