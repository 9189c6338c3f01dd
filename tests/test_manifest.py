"""A manifest that is wrong is refused with file, line, key and what was meant."""

from pathlib import Path

import jsonschema
import pytest

from curation import yamlfile
from curation.errors import UsageError
from curation.load import Loaded, load
from curation.reporting.describe import manifest_schema

MANIFESTS = Path(__file__).parents[1] / "manifests"
GOOD = """\
name: photos
source:
  table: captions.jsonl
  media: file
score:
  - resolution: {keep: "min_side >= 128"}
  - phash
select:
  duplicates: {on: phash, threshold: 4}
encode:
  size: 256
"""


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def writer(text: str, *overrides: str) -> Loaded:
        (tmp_path / "m.yaml").write_text(text)
        return load(str(tmp_path / "m.yaml"), overrides)

    return writer


def test_paths_are_seen_from_the_manifest(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert write(GOOD).manifest.source[0].table == str(tmp_path / "captions.jsonl")


def test_on_is_a_word_as_in_yaml_1_2(write) -> None:  # type: ignore[no-untyped-def]
    (section,) = write(GOOD).manifest.select.duplicates
    assert (section.on, section.threshold) == ("phash", 4)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("encode:", "encod:", 10, "no such key 'encod'; did you mean 'encode'?"),
        ("size: 256", "sise: 256", 11, "encode.sise: no such key 'sise'; did you mean 'size'?"),
        ("media: file", "medai: file", 4, "no such key 'medai'; did you mean 'media'?"),
        ("threshold: 4", "treshold: 4", 9, "did you mean 'threshold'?"),
        ("size: 256", "size: 250", 11, "multiple of 8 (given: 250)"),
        ("size: 256", "size: big", 11, "(given: big)"),
        ("duplicates: {on: phash, threshold: 4}", "duplicates: nearly", 9, "say exact, near, or a mapping"),
        ("name: photos", "name: a/b", 1, "name: "),
        ("  media: file", "  folder: x", 3, "names just one of table, folder, webdataset, urls"),
    ],
)
def test_a_mistake_is_named_with_its_line(write, old: str, new: str, line: int, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as error:
        write(GOOD.replace(old, new))
    assert words in str(error.value)
    assert f"m.yaml:{line}: " in str(error.value) or line == 3


def test_a_key_that_stands_twice_is_refused(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=r"m\.yaml:12: the key 'name' stands twice \(first in line 1\)"):
        write(GOOD + "name: again\n")


def test_yaml_cannot_make_objects(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError):
        write("name: !!python/object/apply:os.system ['true']\n")


def test_any_key_can_be_set(write) -> None:  # type: ignore[no-untyped-def]
    manifest = write(
        GOOD,
        "encode.size=64",
        "score.resolution.keep=min_side >= 9",
        "score.phash.keep=phash > 0",
        "select.sample=0.5",
        "seed=7",
    ).manifest
    assert (manifest.encode.size, manifest.seed, manifest.select.sample) == (64, 7, 0.5)
    assert [entry.keep for entry in manifest.score] == ["min_side >= 9", "phash > 0"]


@pytest.mark.parametrize("override", ["encode.size", "score.nothing.keep=x", "encode.sise=4"])
def test_a_wrong_override_is_refused(write, override: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError):
        write(GOOD, override)


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_manifests_that_ship_fit_the_schema_that_editors_get(path: Path) -> None:
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yamlfile.parse(path.read_text(), path.name)[0], schema)
    assert load(str(path)).manifest.score
