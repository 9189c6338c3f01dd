"""The commands: thin, each calls one function and prints what it returns."""

import atexit
import json
import os
import signal
import sys
from typing import Annotated

import typer

from curation.errors import CurationError
from curation.terminal import visible

INTERRUPTED = 130
app = typer.Typer(
    help="From raw images, videos and captions to training-ready latent shards, every record accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        from curation.install import program_version

        typer.echo(f"curation {program_version()}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and end")
    ] = False,
) -> None:
    pass


ManifestArgument = Annotated[str, typer.Argument(metavar="MANIFEST", help="a YAML file; a path or URL")]
DirArgument = Annotated[str, typer.Argument(metavar="DIR", help="a run directory; a path or URL")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. encode.size=128")
]
OutOption = Annotated[str | None, typer.Option("--out", metavar="DIR", help="run directory or URL; default runs/NAME")]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="auto|ray|inline",
        help="auto: processes of this machine for small work, else Ray; inline: this process alone, for debugging",
    ),
]
AddressOption = Annotated[str | None, typer.Option("--address", help="a running Ray cluster: auto, or HOST:PORT")]


@app.command()
def run(
    manifest: ManifestArgument,
    out: OutOption = None,
    overrides: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="try quarantined records again")] = False,
) -> None:
    """Score, select, encode; continues where it stopped."""
    from curation.phases import run as run_manifest

    run_manifest(manifest, out, overrides or (), engine=engine, address=address, retry=retry, report=True)


@app.command()
def plan(manifest: ManifestArgument, out: OutOption = None, overrides: SetOption = None) -> None:
    """Show the checked plan: stages, models, pools, rows, time, memory, disk. Runs nothing."""
    from curation.reporting.estimate import show_plan

    show_plan(manifest, out, overrides or ())


@app.command()
def select(directory: DirArgument, overrides: SetOption = None) -> None:
    """Decide again from stored scores; loads no model."""
    from curation.phases import reselect

    reselect(directory, overrides or ())


@app.command()
def why(
    directory: DirArgument,
    identity: Annotated[str, typer.Argument(metavar="ID", help="an id, a source key, or a part of it")],
) -> None:
    """Tell the whole story of each record of a key: scores, gates, decision, duplicate, shard."""
    from curation.reporting.why import tell

    tell(directory, identity)


@app.command()
def report(directory: DirArgument) -> None:
    """Write report.html: funnel, thresholds to drag, pictures, map of embeddings; one file that needs no network."""
    from curation.reporting.report import write_report

    typer.echo(write_report(directory))


@app.command(name="export-list")
def export_list(
    directory: DirArgument,
    reasons: Annotated[
        list[str] | None,
        typer.Option("--reason", help="kept, dropped, quarantined, a stage, or a reason as the funnel says it"),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help=".csv, .jsonl or .parquet; - for CSV on the terminal")
    ] = "-",
) -> None:
    """List records with their ids, keys and reasons."""
    from curation.reporting.export import export_list as export

    export(directory, reasons or (), out)


@app.command()
def card(directory: DirArgument) -> None:
    """Write card.md, a card of the data set, and croissant.json, its description in Croissant 1.0."""
    from curation.reporting.card import write_card

    for place in write_card(directory):
        typer.echo(place)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="a run directory")],
    other: Annotated[str, typer.Argument(metavar="B", help="another")],
) -> None:
    """Compare two runs: manifests, models, counts per gate, and the records that moved."""
    from curation.reporting.diff import show_diff

    show_diff(one, other)


@app.command()
def verify(directory: DirArgument) -> None:
    """Read everything in a run directory and say what is damaged; exit code 1 where something is."""
    from curation.repair import verify as damaged
    from curation.stores.storage import Store

    if found := damaged(Store(directory)):
        more = "; `curate run` with its manifest makes it anew"
        raise CurationError("\n".join([f"{len(found)} damaged{more}", *found]))
    typer.echo(f"{directory}: all files are sound")


@app.command()
def train(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|SHARDS", help="a manifest that was run, or shards")],
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="default: train/ beside the shards")] = None,
    overrides: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Train the bundled diffusion transformer on the shards; continues where it stopped."""
    from curation.trainer.train import train as train_model

    train_model(source, out, overrides or (), address)


ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="DIR", help="a training or checkpoint; default the newest in runs/")
]
StepsOption = Annotated[int, typer.Option("--steps", help="of sampling")]
GuidanceOption = Annotated[float, typer.Option("--guidance", help="scale; 1 for none")]
RescaleOption = Annotated[float, typer.Option("--rescale", help="of guidance, 0 to 1")]
SamplerOption = Annotated[
    str | None, typer.Option("--sampler", help="ddpm, ddim, euler, dpm++; default euler for flow, dpm++ for ddpm")
]
ShiftOption = Annotated[float, typer.Option("--shift", min=0.01, help="of a flow's timesteps towards noise; 1: even")]
SeedOption = Annotated[int, typer.Option("--seed", min=0)]
EmaOption = Annotated[bool, typer.Option("--ema/--no-ema", help="averaged weights, or the last ones")]
ModerationOption = Annotated[
    str | None,
    typer.Option("--moderation", metavar="URL#MODEL", help="ask this server too, http://HOST:8000/v1#MODEL"),
]
BucketOption = Annotated[
    str | None, typer.Option("--bucket", metavar="TxHxW", help="frames and pixels; default the fullest bucket")
]


@app.command()
def sample(
    prompt: str,
    model: ModelOption = None,
    steps: StepsOption = 30,
    guidance: GuidanceOption = 7.0,
    negative: Annotated[str, typer.Option("--negative", help="prompt to lead away from")] = "",
    seed: SeedOption = 0,
    n: Annotated[int, typer.Option("--n", min=1)] = 4,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help=".png, or .mp4 of clips")] = "sample.png",
    sampler: SamplerOption = None,
    rescale: RescaleOption = 0.0,
    shift: ShiftOption = 1.0,
    bucket: BucketOption = None,
    ema: EmaOption = True,
    fps: Annotated[float, typer.Option("--fps", help="of an mp4")] = 24.0,
    limit: Annotated[float, typer.Option("--punsafe", help="samples from this probability on are refused")] = 0.5,
    moderation: ModerationOption = None,
) -> None:
    """Paint a prompt with a trained model."""
    from curation.trainer.sample import Request, Settings, paint

    settings = Settings(steps, sampler, guidance, rescale, shift, negative, bucket)  # type: ignore[arg-type]
    typer.echo(paint(Request(prompt, n, seed, model, ema, out, fps, limit, moderation), settings))


@app.command(name="eval")
def evaluate(
    model: ModelOption = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="DIR", help="pictures or shards; default the training's shards")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="FILE", help="one a line; default captions")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="samples")] = 1000,
    features: Annotated[
        str, typer.Option("--features", help="embedded, pixels8, open_clip:MODEL:WEIGHTS, inception:FILE")
    ] = "embedded",
    score: Annotated[str, typer.Option("--score", help="image-text model: embedded, open_clip:...")] = "embedded",
    steps: StepsOption = 30,
    guidance: GuidanceOption = 1.0,
    sampler: SamplerOption = None,
    rescale: RescaleOption = 0.0,
    shift: ShiftOption = 1.0,
    bucket: BucketOption = None,
    seed: SeedOption = 0,
    ema: EmaOption = True,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="the report, JSON")] = "eval.json",
    moderation: ModerationOption = None,
) -> None:
    """Measure a trained model: distances to a reference set, score of its prompts."""
    from pathlib import Path

    from curation.trainer import evaluate as evaluation
    from curation.trainer.sample import Settings

    settings = Settings(steps, sampler, guidance, rescale, shift, bucket=bucket)  # type: ignore[arg-type]
    asked = evaluation.Evaluation(model, reference, prompts, n, seed, ema, features, score, moderation)
    report = evaluation.evaluate(asked, settings)
    typer.echo(evaluation.table(report))
    typer.echo(f"{'report':<36} {evaluation.save(report, Path(out))}")


@app.command()
def doctor() -> None:
    """Check Python, packages, GPU, Ray, disk and models, with the fix for each; exit code 1 where one needs it."""
    from curation.reporting.doctor import examine

    examine()


@app.command()
def stages(name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None) -> None:
    """List the stages, or one stage's params, columns and model."""
    from curation.reporting.describe import list_stages, show_stage

    show_stage(name) if name else list_stages()


@app.command()
def schema() -> None:
    """Print the manifest's JSON schema, for editors."""
    from curation.reporting.describe import manifest_schema

    typer.echo(json.dumps(manifest_schema(), indent=2))


class _Interrupted(BaseException):
    """Ctrl-C; no KeyboardInterrupt, which typer would end the program on without a word."""


def _on_interrupt(_number: int, _frame: object) -> None:
    """The first Ctrl-C lets go of what is held; a second one, meanwhile, ends the process as it is."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    raise _Interrupted


def main() -> None:
    """Run a command. Errors are sentences on stderr, and an exit code: 1 failed, 2 wrong input, 3 nothing kept, 130
    interrupted."""
    # Python takes its handlers away when it ends, and a second Ctrl-C would then end it by the signal
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGINT, _on_interrupt)
    try:
        app()
    except CurationError as error:
        print(f"curate: {visible(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        from curation.install import missing

        sentence = missing(error.name)
        if sentence is None:  # no extra brings it: a fault of the program, of which a developer wants the traceback
            raise
        print(f"curate: {sentence}", file=sys.stderr)
        sys.exit(1)
    except _Interrupted:
        print("curate: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
