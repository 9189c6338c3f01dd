"""`python -m curation.quickstart build DIR` and `python -m curation.quickstart check RUN PLANTED`."""

import sys
from pathlib import Path

import typer

from curation.errors import CurationError
from curation.progress import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def build(folder: Path) -> None:
    """Write the corpus into a folder."""
    from curation.quickstart.build import build as write

    console().print(f"corpus   {write(folder)} records in {folder}")


@app.command()
def check(run: str, planted: Path) -> None:
    """Print planted against found for a run of the corpus."""
    from curation.quickstart.check import check as compare
    from curation.quickstart.check import table

    console().print(table(compare(run, planted)))


if __name__ == "__main__":
    try:
        app()
    except CurationError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
