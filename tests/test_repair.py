"""Whatever file of a run directory is damaged, the next run makes it anew, and `curate verify` names it."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus

from curation.errors import CurationError
from curation.phases import reselect, run
from curation.repair import verify
from curation.stores.storage import Store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    table = write_corpus(folder / "corpus", 12)
    (folder / "m.yaml").write_text(
        f"name: m\nsource: {{table: {table}, media: file, caption: caption}}\nscore: [resolution, phash]\n"
        "encode: {size: 64, shards: {samples: 5}, reconstructions: 0}\nengine: {rows_per_chunk: 4}\n"
    )
    run(str(folder / "m.yaml"), str(folder / "run"), [], engine="inline")
    return folder


def files(out: Path) -> list[Path]:
    return sorted(f.relative_to(out) for f in out.rglob("*") if f.is_file() and "lock" not in f.name)


def products(out: Path) -> dict[str, bytes]:
    wanted = [f for f in files(out) if f.parts[0] in ("scores", "shards", "selection.parquet")]
    return {str(f): (out / f).read_bytes() for f in wanted}


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    return {"garbage": b"\0garbage{" * 3, "flipped": flipped, "empty": b"", "cut": data[: middle + 1]}[how]


@pytest.mark.parametrize("how", ["garbage", "flipped", "empty", "cut"])
def test_a_rerun_makes_what_is_damaged_anew(sound: Path, tmp_path: Path, how: str) -> None:
    expected = products(sound / "run")
    assert verify(Store(str(sound / "run"))) == []
    kinds: dict[tuple[str, ...], Path] = {}
    for file in files(sound / "run"):  # one of each kind
        kinds.setdefault((*file.parts[:2], file.suffix), file)
    for file in kinds.values():
        out = tmp_path / file.name
        shutil.copytree(sound / "run", out, copy_function=shutil.copy2)
        (out / file).write_bytes(damaged((out / file).read_bytes(), how))
        if file.parts[0] in ("scores", "shards", "selection.parquet"):
            assert verify(Store(str(out))), file
        try:
            run(str(sound / "m.yaml"), str(out), [], engine="inline")
        except CurationError as error:  # a damage that only the decision met: removed, and said
            assert "run the same command again" in str(error), file
            run(str(sound / "m.yaml"), str(out), [], engine="inline")
        assert products(out) == expected, file
        assert verify(Store(str(out))) == [], file


def test_a_copy_of_a_run_is_sound_and_computes_nothing(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "run", tmp_path / "copy", copy_function=shutil.copy)
    ledger = run(str(sound / "m.yaml"), str(tmp_path / "copy"), [], engine="inline")
    assert ledger.phases["score"]["resumed"] == 12 and products(tmp_path / "copy") == products(sound / "run")


@pytest.mark.parametrize("how", ["a name is no UTF-8", "a note of another type", "facts of other channels"])
def test_what_parses_and_says_nonsense_is_made_anew(sound: Path, tmp_path: Path, how: str) -> None:
    """Found by the fuzz: footers have no checksum, and JSON may be sound and wrong."""
    out = Path(shutil.copytree(sound / "run", tmp_path / "run"))
    before = products(out)
    scores = sorted((out / "scores").glob("*.parquet"))[0]
    if how == "a name is no UTF-8":
        data = scores.read_bytes()
        at = data.rindex(b"phash")
        scores.write_bytes(data[:at] + b"\xf4" + data[at + 1 :])
    elif how == "a note of another type":
        table = pq.read_table(scores)
        notes = json.loads(table.schema.metadata[b"curation"]) | {"stages": ["phash"]}
        pq.write_table(table.replace_schema_metadata({"curation": json.dumps(notes)}), scores)
    else:
        (facts,) = (out / "_work" / "encode" / "facts").glob("vae-*.json")
        content = json.loads(facts.read_bytes())
        facts.write_text(json.dumps(content | {"latents_std": [*content["latents_std"], 1.0]}))
    found = verify(Store(str(out)))
    assert found, "curate verify must name it"
    if "facts" not in how:
        with pytest.raises(CurationError, match="is damaged"):
            reselect(str(out), ())
    run(str(sound / "m.yaml"), str(out), [], engine="inline")
    assert products(out) == before and not verify(Store(str(out)))
