import numpy as np
import pytest

from curation.models.captions import bounded
from curation.models.minilm import MiniLm
from curation.models.registry import describe, open_model


@pytest.fixture(scope="module")
def text() -> MiniLm:
    return open_model("text", "embedded")


def test_describe_names_the_model_and_hashes_its_files() -> None:
    info = describe("text", "embedded")
    assert info.id == "embedded:all-minilm-l6-v2-int8"
    assert len(info.sha256) == 64 and info.problem is None


def test_tokens_are_trimmed_to_each_caption(text: MiniLm) -> None:
    short, long = text.tokens(["a dog", "a brown dog runs over the wet grass"])
    assert short.shape == (4, 384)  # [CLS] a dog [SEP]
    assert long.shape == (10, 384)
    assert short.dtype == np.float16


def test_a_caption_has_the_same_bytes_alone_and_among_others(text: MiniLm) -> None:
    captions = ["a dog", "word " * 400, "", "a red bus parked in front of a building"]
    together = text.tokens(captions)
    for caption, states in zip(captions, together, strict=True):
        assert np.array_equal(text.tokens([caption])[0], states)


def test_long_captions_are_cut_at_max_tokens_not_at_the_tokenizer_files_128(text: MiniLm) -> None:
    assert text.tokens(["word " * 400])[0].shape == (256, 384)
    assert text.tokens(["word " * 150])[0].shape == (152, 384)


def test_the_null_embedding_is_that_of_the_empty_caption(text: MiniLm) -> None:
    assert text.null().shape == (2, 384)
    assert np.array_equal(text.null(), text.tokens([""])[0])


def test_embeddings_are_unit_length_and_know_synonyms(text: MiniLm) -> None:
    dog, puppy, invoice = text.embed(["a photo of a dog", "a picture of a puppy", "an unpaid invoice"])
    assert np.linalg.norm(dog) == pytest.approx(1, abs=1e-6)
    assert dog @ puppy > 0.7 > 0.3 > dog @ invoice
    assert text.embed([]).shape == (0, 384)


@pytest.mark.parametrize("caption", ["x" * 1_000_000, "\0", "\ud800\udfff", "<b>&lt;" * 99_999, "é" * 9999, "🐕"])
def test_hostile_captions_have_finite_states(text: MiniLm, caption: str) -> None:
    states = text.tokens([caption])[0]
    assert 2 <= len(states) <= 256
    assert np.isfinite(states).all()


def test_a_megabyte_of_blanks_does_not_hide_the_words_behind_it() -> None:
    assert bounded(" \n" * 500_000 + "a dog") == "a dog"


def test_lone_surrogates_are_dropped(text: MiniLm) -> None:
    assert bounded("a \udcffdog") == "a dog"
    assert np.array_equal(text.tokens(["a \udcffdog"])[0], text.tokens(["a dog"])[0])
