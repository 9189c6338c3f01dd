"""Every place where prompts enter the trainer, and what is said of one that is refused."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.chat import ChatServer, Reply
from test_prompts_endpoint import honest, results, spec

from curation.errors import Unavailable, UsageError
from curation.stores.storage import Store
from curation.trainer import grids
from curation.trainer.config import TrainConfig
from curation.trainer.evaluate import Evaluation, evaluate, read_prompts
from curation.trainer.grids import first_captions
from curation.trainer.guard import LONGEST, allowed, check_prompts
from curation.trainer.sample import Request, Settings, paint
from curation.trainer.train import train

END = "; say it in other words, or leave it out"


def refused(prompts: dict[str, str], moderation: str | None = None) -> str:
    with pytest.raises(UsageError) as raised:
        check_prompts(prompts, moderation)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_the_place_is_named() -> None:
    check_prompts({"the prompt": "a park", "--negative": ""})
    assert (
        refused({"the prompt": "a park", "--negative": "nude"})
        == f"--negative is refused: it names sexual content{END}"
    )


def test_a_prompt_too_long_to_check_is_refused() -> None:
    told = f"it has {LONGEST + 1:,} characters, and at most {LONGEST:,} are checked"
    assert refused({"the prompt": "a" * (LONGEST + 1)}) == f"the prompt is refused: {told}{END}"


def test_the_server_is_asked_about_what_the_words_pass() -> None:
    with ChatServer(honest) as server:
        told = refused({"a": "a park", "b": "a bad park", "c": " "}, spec(server))
        assert allowed(["a nude", "a park", "a bad park", ""], spec(server)) == ["a park", ""]
    assert told == f"b is refused: the moderation server flags it as sexual/minors, violence{END}"
    assert [body["input"] for body in server.bodies] == [["a park", "a bad park"]] * 2


def test_a_server_that_fails_paints_nothing(tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    with ChatServer(lambda *_: (500, {}, b"")) as server, pytest.raises(Unavailable, match="not checked"):
        paint(Request("a park", out=str(out), moderation=spec(server)), Settings())
    assert not out.exists()


def test_both_prompts_of_a_sample_are_checked() -> None:
    with pytest.raises(UsageError, match=r"^the prompt is refused: it names sexual content with minors"):
        paint(Request("ch1ld p0rn"), Settings())
    with pytest.raises(UsageError, match=r"^--negative is refused: it names sexual content"):
        paint(Request("a park"), Settings(negative="n u d e"))


def test_a_file_of_prompts_is_checked_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a park\n\nголая женщина\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^--prompts .*prompts.txt:3 is refused: it names sexual content"):
        evaluate(Evaluation(prompts=str(file)), Settings())
    file.write_text("a park\n\n a lake \n", encoding="utf-8")
    assert read_prompts(str(file)) == ["a park", "a lake"]
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no prompt"):
        read_prompts(str(file))


def test_prompts_of_a_manifest_are_checked_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(
        "name: tiny\nsource: {table: t.jsonl, media: file}\nscore: [resolution]\nencode: {size: 64}\n"
        "train:\n  prompts:\n    - a park\n    - nud3\n",
        encoding="utf-8",
    )
    shards = Path("runs/tiny/shards")
    shards.mkdir(parents=True)
    (shards / "index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^m.yaml:8: train.prompts.1 is refused: it names sexual content"):
        train("m.yaml", None, [])


def test_a_server_is_named_on_the_command_line_and_cannot_write_on_the_terminal() -> None:
    def hostile(body: dict[str, Any], _: int) -> Reply:
        return results(*([["\x1b[2Jgone"]] * len(body["input"])))

    with ChatServer(hostile) as server:
        command = [sys.executable, "-m", "curation", "sample", "a park", "--moderation", spec(server)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = "curate: the prompt is refused: the moderation server flags it as \\x1b[2Jgone"
    assert done.returncode == 2 and done.stdout == "" and done.stderr == f"{told}{END}\n"


def batches(*captions: str) -> Any:
    """What a grid wants of batches: shards with captions."""
    return SimpleNamespace(shards=[SimpleNamespace(meta={"captions": [caption]}) for caption in captions])


def test_grids_leave_out_captions_that_are_refused() -> None:
    with ChatServer(honest) as server:
        given = batches("a nude", "a park", "a bad park", "a park", "a lake")
        assert first_captions(given, spec(server)) == ["a park", "a lake"]
    assert first_captions(batches("a nude")) == []


def test_without_an_answer_there_is_no_grid_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(lambda *_: (500, {}, b"")) as server:
        config = TrainConfig(moderation=spec(server))
        monkeypatch.setattr(grids, "Painter", lambda *_: SimpleNamespace(config=config))
        grids.write_grid({"step": 4}, {}, batches("a park"), Store(str(tmp_path)))
    assert "no grid of samples at step 4: the prompts were not checked" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
