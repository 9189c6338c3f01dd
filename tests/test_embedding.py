import numpy as np
import pyarrow as pa
from skimage import data

from curation.pixels import Pixels
from curation.stage import run_guarded
from stages.embedding import Embedding


def test_one_half_precision_unit_vector_a_picture() -> None:
    stage = Embedding(Embedding.Params())
    stage.load()
    columns = run_guarded(stage, {"pixels": [Pixels.of(data.cat()), Pixels.of(data.rocket())]})
    vectors = pa.array(columns["embedding"], Embedding.writes["embedding"].type)
    assert [len(vector) for vector in vectors] == [1280, 1280]
    assert abs(np.linalg.norm(np.array(vectors[0].as_py(), np.float32)) - 1) < 1e-3
