import pytest
from skimage import data

from curation.pixels import Pixels
from curation.stage import run_guarded
from stages.tags import Tags


def run(**params: float) -> dict:
    stage = Tags(Tags.Params(**params))
    stage.load()
    return run_guarded(stage, {"pixels": [Pixels.of(data.cat())]})


def test_tags_are_likeliest_first_with_their_probabilities() -> None:
    columns = run(top=4, least=0)
    assert len(columns["tags"][0]) == len(columns["tag_scores"][0]) == 4
    assert columns["tag_scores"][0] == sorted(columns["tag_scores"][0], reverse=True)


def test_unlikely_classes_are_left_out() -> None:
    assert run(top=1000, least=1.0) == {"tags": [[]], "tag_scores": [[]]}
    assert all(score >= 0.05 for score in run(top=1000)["tag_scores"][0])


def test_top_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Tags.Params(top=0)
