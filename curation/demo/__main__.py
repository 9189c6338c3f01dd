"""`python -m curation.demo build digits DIR` makes a corpus, `judge digits MODEL` measures what was learnt."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import CurationError, UsageError
from curation.progress import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
CORPORA = ("digits", "shapes", "moving")


def _module(corpus: str, prefix: str = "") -> object:
    if corpus not in CORPORA:
        raise UsageError(f"no corpus '{corpus}'; there are {', '.join(CORPORA)}")
    return importlib.import_module(f"curation.demo.{prefix}{corpus}")


@app.command()
def build(corpus: str, folder: Path) -> None:
    """Write a corpus: digits, shapes or moving."""
    console().print(f"corpus   {_module(corpus).build(folder)} records in {folder}")  # type: ignore[attr-defined]


@app.command()
def judge(
    corpus: str,
    model: str,
    n: Annotated[int, typer.Option(help="samples at each guidance")] = 500,
    picture: Annotated[Path | None, typer.Option(help="write samples here, .png")] = None,
) -> None:
    """Sample a trained model and say how often the samples are what was asked for."""
    for line in _module(corpus, "judge_").judge(model, n, picture):  # type: ignore[attr-defined]
        console().print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    try:
        app()
    except CurationError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
