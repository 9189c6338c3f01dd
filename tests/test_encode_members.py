"""What a record says to its sample: captions with their sources and scores, scores as JSON."""

import json

import pyarrow as pa

from curation.encoding.captions import Choice, captions_of, own_captions
from curation.encoding.members import _Columns


def test_captions_keep_their_order_and_say_where_they_are_from() -> None:
    row = {
        "captions": ["one", "two"],
        "generated_caption": "a cat",
        "generated_caption_source": "embedded:tags",
        "caption_similarities": [0.5, None, float("nan")],
    }
    own = own_captions(row, {"similarity": "caption_similarities"})
    made = captions_of(own, None, {})
    assert made["captions"] == ["one", "two", "a cat"]
    assert made["caption_sources"] == ["source", "source", "embedded:tags"]
    assert json.loads(made["caption_scores"]) == [{"similarity": 0.5}, {}, {}]
    chosen = captions_of(own, Choice(kept=(2, 0), merged=(("other", 1),)), {"other": own})
    assert chosen["captions"] == ["a cat", "one", "two"]


def test_scores_in_a_shard_are_numbers_that_json_knows() -> None:
    columns = _Columns((), ("aesthetic", "hash", "nothing", "sharpness", "tags"), frozenset({"hash"}), {})
    table = pa.table(
        {
            "aesthetic": pa.array([0.5, 1.5], pa.float32()),
            "hash": pa.array([2**63 + 1, None], pa.uint64()),
            "nothing": pa.nulls(2, pa.float64()),
            "sharpness": [float("nan"), float("inf")],
            "tags": [None, "a"],
        }
    )
    assert [json.loads(text) for text in columns._scores(table)] == [
        {"aesthetic": 0.5, "hash": "8000000000000001"},
        {"aesthetic": 1.5, "tags": "a"},
    ]
