import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from curation.models.image_text import FILE, ImageTextHead, product
from curation.models.registry import describe, open_model
from curation.models.training.fit_image_text import auc, fit, measure, read, recall
from curation.pixels import Pixels


@pytest.fixture(scope="module")
def model() -> ImageTextHead:
    return open_model("image_text", "embedded")


def test_describe_covers_head_and_both_backbones() -> None:
    info = describe("image_text", "embedded")
    assert info.id == "embedded:efficientnet-lite0+minilm" and info.problem is None
    assert len(info.sha256.split("+")) == 3


def test_the_weights_fit_in_the_repository() -> None:
    assert FILE.stat().st_size < 1_200_000


def test_every_photo_prefers_its_own_caption(model: ImageTextHead) -> None:
    """scikit-image's photos: none was fitted."""
    pictures = [Pixels.of(photo) for photo in (data.cat(), data.rocket(), data.coffee(), data.astronaut())]
    captions = [
        "a cat looking into the camera",
        "a rocket on its launch pad at night",
        "a cup of coffee on a wooden table",
        "a smiling woman in an orange space suit",
    ]
    scores = np.array([[model.similarity([p], [c])[0] for c in captions] for p in pictures])
    assert (scores.argmax(axis=1) == np.arange(4)).all()
    assert (np.diag(scores) > 0.2).all()


def test_a_vague_caption_scores_below_a_fitting_one(model: ImageTextHead) -> None:
    cat = Pixels.of(data.cat())
    fitting, vague = model.similarity([cat, cat], ["a tabby cat with whiskers", "a picture of something"])
    assert fitting > vague


def test_a_pair_scores_the_same_alone_and_among_others(model: ImageTextHead) -> None:
    cat, rocket = Pixels.of(data.cat()), Pixels.of(data.rocket())
    together = model.similarity([cat, rocket, cat], ["a cat", "a rocket", ""])
    assert together[1] == model.similarity([Pixels.of(data.rocket())], ["a rocket"])[0]
    assert model.similarity([], []) == []


def test_product_is_matrix_multiplication() -> None:
    left, right = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(product(left, right), left @ right)


def test_auc_and_recall_of_known_tables() -> None:
    assert auc(np.array([[0.9, 0.1], [0.2, 0.8]])) == 1
    assert auc(np.array([[0.1, 0.9], [0.8, 0.2]])) == 0
    assert recall(np.array([[0.1, 0.9], [0.2, 0.8]]), within=1) == 0.5


def test_held_out_photos_reach_the_target(model: ImageTextHead, shared_corpus: Path, tmp_path: Path) -> None:
    """On the 75 captioned photos that were not fitted; and fitting again gives the shipped weights."""
    table = tmp_path / "photos.jsonl"
    rows = map(json.loads, (shared_corpus / "captions.jsonl").read_text().splitlines())
    rows = [{**row, "file": str(shared_corpus / row["file"])} for row in rows if len(row["captions"]) >= 5]
    table.write_text("\n".join(map(json.dumps, rows)))
    photos = read(table, model.images, model.texts)
    assert (len(photos.pooled), photos.permissive.sum()) == (141, 66)
    area, found = measure(model.head, photos[~photos.permissive])
    assert area >= 0.97 and found >= 0.96
    again = fit(photos[photos.permissive], model.head.classes)
    np.testing.assert_allclose(again.text_mean, model.head.text_mean, atol=1e-3)
    np.testing.assert_allclose(again.references, model.head.references, atol=2e-3)


def test_fitting_ignores_rows_with_few_captions(model: ImageTextHead, tmp_path: Path) -> None:
    Image.fromarray(data.cat()).save(tmp_path / "cat.png")
    lines = [{"file": "cat.png", "captions": ["a cat"] * n, "permissive": True} for n in (1, 4, 5, 7)]
    (tmp_path / "photos.jsonl").write_text("\n".join(map(json.dumps, lines)))
    photos = read(tmp_path / "photos.jsonl", model.images, model.texts)
    assert photos.captions.shape == (2, 5, 384)
