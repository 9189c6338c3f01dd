"""The commands: thin, each calls one function and prints what it returns."""

import json
import sys
from typing import Annotated

import typer

from curation.errors import CurationError

app = typer.Typer(
    help="From raw images, videos and captions to training-ready latent shards, every record accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ManifestArgument = Annotated[str, typer.Argument(metavar="MANIFEST", help="a YAML file; a path or URL")]
DirArgument = Annotated[str, typer.Argument(metavar="DIR", help="a run directory; a path or URL")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. encode.size=128")
]
OutOption = Annotated[str | None, typer.Option("--out", metavar="DIR", help="run directory or URL; default runs/NAME")]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="ray|inline", help="inline: this process, for debugging")
]
AddressOption = Annotated[str | None, typer.Option("--address", help="a running Ray cluster: auto, or HOST:PORT")]


@app.command()
def run(
    manifest: ManifestArgument,
    out: OutOption = None,
    overrides: SetOption = None,
    engine: EngineOption = "ray",
    address: AddressOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="try quarantined records again")] = False,
) -> None:
    """Score, select, encode; continues where it stopped."""
    from curation.run import run as run_manifest

    run_manifest(manifest, out, overrides or (), engine=engine, address=address, retry=retry)


@app.command()
def plan(manifest: ManifestArgument, out: OutOption = None, overrides: SetOption = None) -> None:
    """Show the checked plan: stages, models, pools, rows, time, memory, disk. Runs nothing."""
    from curation.estimate import show_plan

    show_plan(manifest, out, overrides or ())


@app.command()
def select(directory: DirArgument, overrides: SetOption = None) -> None:
    """Decide again from stored scores; loads no model."""
    from curation.run import reselect

    reselect(directory, overrides or ())


@app.command()
def why(
    directory: DirArgument, identity: Annotated[str, typer.Argument(metavar="ID", help="a record's id or source key")]
) -> None:
    """Tell one record's whole story: scores, gates, decision, duplicate, shard."""
    from curation.why import tell

    tell(directory, identity)


@app.command()
def report(directory: DirArgument) -> None:
    """Write report.html: the funnel, histograms, pictures near each threshold."""
    from curation.report import write_report

    typer.echo(write_report(directory))


@app.command()
def stages(name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None) -> None:
    """List the stages, or one stage's params, columns and model."""
    from curation.describe import list_stages, show_stage

    show_stage(name) if name else list_stages()


@app.command()
def schema() -> None:
    """Print the manifest's JSON schema, for editors."""
    from curation.describe import manifest_schema

    typer.echo(json.dumps(manifest_schema(), indent=2))


def main() -> None:
    """Run a command; errors are sentences on stderr and an exit code: 1 failed, 2 wrong input, 3 nothing kept."""
    try:
        app()
    except CurationError as error:
        print(f"curate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("curate: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
