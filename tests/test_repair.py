"""Whatever file of a run directory is damaged, the next run makes it anew, and `curate verify` names it."""

import shutil
from pathlib import Path

import pytest
from helpers.corpus import write_corpus

from curation.errors import CurationError
from curation.repair import verify
from curation.run import run
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
