import numpy as np
import pytest
import torch
from skimage import data

from curation.models.efficientnet import EfficientNet, EfficientNetNetwork, class_names, network_input
from curation.models.registry import describe, open_model
from curation.pixels import Pixels
from curation.threads import one_thread


@pytest.fixture(scope="module")
def model() -> EfficientNet:
    return open_model("tags", "embedded")


def test_one_backbone_serves_tags_and_embedding(model: EfficientNet) -> None:
    assert open_model("image_embedding", "embedded") is model
    assert describe("tags", "embedded") == describe("image_embedding", "embedded")


def test_class_names_are_in_the_order_of_imagenet() -> None:
    names = class_names()
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


def test_tags_name_what_the_photo_shows(model: EfficientNet) -> None:
    cat, rocket, coffee = model.tags([Pixels.of(data.cat()), Pixels.of(data.rocket()), Pixels.of(data.coffee())], 3)
    assert cat[0][0] in {"tabby", "tiger cat", "Egyptian cat"}
    assert {"missile", "projectile"} & {name for name, _ in rocket}
    assert {"espresso", "cup"} & {name for name, _ in coffee}
    scores = [score for _, score in cat]
    assert len(cat) == 3 and scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1


def test_near_duplicates_are_close_and_other_pictures_are_not(model: EfficientNet) -> None:
    cat = data.cat()
    vectors = model.embed([Pixels.of(cat), Pixels.of(cat[::2, ::2]), Pixels.of(data.rocket())])
    assert vectors.shape == (3, 1280) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.9 > 0.5 > vectors[0] @ vectors[2]


def test_a_picture_has_the_same_bytes_alone_and_among_others(model: EfficientNet) -> None:
    pictures = [data.cat(), data.rocket(), data.coffee()]
    together = model.embed([Pixels.of(picture) for picture in pictures])
    for picture, vector in zip(pictures, together, strict=True):
        assert np.array_equal(model.embed([Pixels.of(picture)])[0], vector)


def test_the_forward_pass_is_shared(model: EfficientNet) -> None:
    picture = Pixels.of(data.cat())
    assert model.features([picture, picture])[0] is model.features([picture])[0]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (500, 500, (256, 256)),
        (640, 480, (224, 288)),  # 1.29 for 1.33: the nearest multiples of 32
        (480, 640, (288, 224)),
        (1, 1, (256, 256)),
        (65535, 1, (128, 512)),
        (1, 65535, (512, 128)),
    ],
)
def test_the_whole_picture_at_about_its_aspect_ratio(
    model: EfficientNet, width: int, height: int, expected: tuple[int, int]
) -> None:
    picture = Pixels.of(np.full((height, width, 3), 127, np.uint8))
    assert network_input(picture).shape == (*expected, 3)
    assert np.isfinite(model.embed([picture])).all()


def test_pictures_are_scaled_as_in_training(model: EfficientNet) -> None:
    """By (x - 127) / 128, as the original's preprocessing says."""
    picture = Pixels.of(data.cat())
    network = EfficientNetNetwork("", "cpu", "fp32").module
    planes = torch.from_numpy(network_input(picture)).permute(2, 0, 1)[None].float()
    with one_thread(), torch.inference_mode():
        pooled = network.extract_features(((planes - 127) / 128).contiguous()).mean((2, 3))
    np.testing.assert_array_equal(model.features([picture])[0].pooled, pooled[0].numpy())


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
