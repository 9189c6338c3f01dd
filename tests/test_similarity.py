import pytest
from skimage import data

from curation.pixels import Pixels
from curation.stage import run_guarded
from stages.similarity import Similarity


@pytest.fixture(scope="module")
def stage() -> Similarity:
    stage = Similarity(Similarity.Params())
    stage.load()
    return stage


def test_the_matching_caption_scores_higher(stage: Similarity) -> None:
    cat, rocket = "a close-up of a cat's face", "a rocket on its launch pad at night"
    columns = run_guarded(
        stage,
        {
            "pixels": [Pixels.of(data.cat()), Pixels.of(data.rocket())],
            "caption": [cat, rocket],
            "captions": [[cat, rocket], [rocket, cat]],
        },
    )
    for main, (match, swapped) in zip(columns["similarity"], columns["caption_similarities"], strict=True):
        assert main == match > swapped
        assert -1 <= swapped <= match <= 1


def test_a_record_without_a_caption_has_null(stage: Similarity) -> None:
    pixels = Pixels.of(data.cat())
    columns = run_guarded(
        stage,
        {
            "pixels": [pixels] * 4,
            "caption": [None, "", " \n", "a cat"],
            "captions": [[], [""], None, ["a cat", ""]],
        },
    )
    assert columns["similarity"][:3] == [None, None, None]
    assert columns["caption_similarities"][:3] == [[], [None], []]
    assert columns["caption_similarities"][3] == [columns["similarity"][3], None]


@pytest.mark.parametrize("caption", ["<a href='x'>cat</a>", "cat\0", "\ud800 cat", "cat " * 250_000])
def test_hostile_captions_are_scored(stage: Similarity, caption: str) -> None:
    columns = run_guarded(stage, {"pixels": [Pixels.of(data.cat())], "caption": [caption], "captions": [[caption]]})
    assert -1 <= columns["similarity"][0] <= 1
