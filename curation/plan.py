"""Manifest -> checked plan: which stages run, with which models and fingerprints, in which pools.

Everything that can be known wrong before the first record is read is refused here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curation import catalog
from curation.captions.stage import GENERATED, CaptionStage
from curation.devices import gpus_here
from curation.encoding.extras import check_names
from curation.encoding.fits import check_shapes
from curation.errors import UsageError
from curation.expression import Expression, parse
from curation.install import command
from curation.load import Loaded, suggest
from curation.manifest import Manifest, StageEntry
from curation.media.decode import DECODE_VERSION
from curation.models import ModelInfo, describe
from curation.record import BASE_SCHEMA
from curation.selection.checks import Types, check_names_and_types, check_select
from curation.stage import Column, Params, Resources, Stage

RECORD_COLUMNS = frozenset(BASE_SCHEMA.names) | {"pixels"}
PROBE = "probe"


@dataclass(frozen=True)
class PlannedStage:
    """A stage with everything a worker needs to run it, picklable.

    fingerprint  hash of all that decides its values (version, params, `when`, model, the stages it reads); a
                 gate is not in it, so that moving a threshold computes nothing
    reads        the columns that it reads with these params
    device       where its model computes: "cpu" (in the worker) or "cuda" (in a server of networks)
    second       whether it is a stage's second turn: it judges the caption that was generated after its first
    late         whether a caption may have been generated before it: its gate judges that one, too
    """

    name: str
    factory: type[Stage]
    params: Params
    keep: str | None
    when: str | None
    fingerprint: str
    model: ModelInfo | None
    resources: Resources
    reads: tuple[str, ...]
    device: str = "cpu"
    second: bool = False
    late: bool = False

    @property
    def writes(self) -> Mapping[str, Column]:
        """The columns that it adds to a record; a second turn adds to the lists of the first."""
        return {} if self.second else self.factory.writes

    @property
    def needs_pixels(self) -> bool:
        return "pixels" in self.reads

    @property
    def gate(self) -> Expression | None:
        return parse(self.keep, f"gate of {self.name}") if self.keep else None

    @property
    def condition(self) -> Expression | None:
        return parse(self.when, f"condition of {self.name}") if self.when else None


@dataclass(frozen=True)
class Plan:
    """The checked plan.

    vae     None where the manifest asks for no latents
    text    None where captions are stored as words alone
    device  of the run, `auto` resolved: "cpu" or "cuda"
    """

    loaded: Loaded
    stages: tuple[PlannedStage, ...]
    vae: ModelInfo | None
    text: ModelInfo | None
    device: str = "cpu"

    def encode_device(self, model: ModelInfo | None) -> str:
        """Where the VAE or the text encoder computes."""
        encode = self.loaded.manifest.encode
        asked = encode.device if encode else None
        if model is self.text and model is not None and asked not in model.devices:
            asked = None  # `encode: {device: cuda}` is meant for the VAE
        return device_of(model, asked, self.device, "encode.device")

    @property
    def on_gpu(self) -> dict[str, ModelInfo]:
        """The models that compute on GPUs, by id."""
        models = [
            stage.model or ModelInfo(stage.name, "", gpu_mb=stage.factory.gpu_mb)
            for stage in self.stages
            if stage.device != "cpu"
        ]
        models += [model for model in (self.vae, self.text) if model and self.encode_device(model) != "cpu"]
        return {model.id: model for model in models}

    def named(self, name: str) -> PlannedStage | None:
        """A planned stage by its name."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def each(self) -> dict[str, str]:
        """Columns of the main caption -> the list columns with the same of each caption."""
        columns = (item for stage in self.stages for item in stage.writes.items())
        return {name: column.each for name, column in columns if column.each}

    @property
    def score_fingerprint(self) -> str:
        """Changes when any cell would; not with gates nor with the order of stages."""
        return digest(sorted((stage.name, stage.fingerprint) for stage in self.stages))

    @property
    def gates_fingerprint(self) -> str:
        """Changes when other records may reach later stages."""
        return digest([(stage.name, stage.keep) for stage in self.stages])


def make_plan(loaded: Loaded, gpus: int | None = None) -> Plan:
    """Resolve and check a manifest. Raises UsageError with a sentence for every mistake found.

    gpus  how many there are where it will run, for `device: auto`; None to look at this machine
    """
    device = loaded.manifest.device
    if device == "auto":
        device = "cuda" if (gpus_here() if gpus is None else gpus) else "cpu"
    entries = list(loaded.manifest.score)
    if all(entry.stage != PROBE for entry in entries):
        entries.insert(0, StageEntry(stage=PROBE))
    stages: list[PlannedStage] = []
    problems: list[str] = []
    offset = len(entries) - len(loaded.manifest.score)
    for i, entry in enumerate(entries):
        where = loaded.where("score", i - offset, entry.stage) if i >= offset else "score (added by itself)"
        try:
            stages.append(_plan_stage(entry, where, loaded.manifest, stages, device))
            if GENERATED in stages[-1].writes:
                stages += [_second_turn(stage, stages) for stage in stages if _is_judged(stage)]
        except UsageError as error:
            problems.append(str(error))
    problems += _clips_without_shots(loaded, {stage.name for stage in stages})
    if any(stage.name == "clips" for stage in stages) and find_spec("av") is None:
        problems.append(f"score: clips are cut from videos, which needs PyAV; to install it: {command('video')}")
    if loaded.manifest.engine.video_decoder == "decord" and find_spec("decord") is None:
        where = loaded.where("engine", "video_decoder")
        problems.append(f"{where}: decord is not installed; say pyav, or install it: {command('decord')}")
    if problems:
        raise UsageError("\n".join(problems))
    vae = text = None
    if encode := loaded.manifest.encode:
        if encode.latents:
            vae = _model("vae", encode.vae, loaded.where("encode", "vae"))
            check_shapes(loaded, vae, clips=any(stage.name == "clips" for stage in stages))
        if encode.text is not None:
            text = _model("text", encode.text_model, loaded.where("encode", "text"))
    _check_select(loaded, stages)
    check_names(loaded)
    plan = Plan(loaded, tuple(stages), vae, text, device)
    for model in (vae, text):
        plan.encode_device(model)  # raises where the device asked for is none of the model's
    return plan


def _clips_without_shots(loaded: Loaded, names: set[str]) -> list[str]:
    """Videos become clips by two stages together; each of them needs the other, and so does a column of clips."""
    missing = [name for name in ("shots", "clips") if name not in names]
    if not missing:
        return []
    fix = "put " + " and ".join(f"`- {name}`" for name in missing) + " under score:"
    problems = []
    for i, entry in enumerate(loaded.manifest.score):
        if entry.stage in ("shots", "clips"):
            where = loaded.where("score", i, entry.stage)
            problems.append(f"{where}: videos are cut into clips by `shots` and `clips` together; {fix}")
    for i, section in enumerate(loaded.manifest.source):
        if section.clips and len(missing) == 2:
            where = loaded.where("source", i, "clips")
            problems.append(f"{where}: the clips of videos are read by `shots` and `clips`; {fix}")
    return problems


def _plan_stage(
    entry: StageEntry, where: str, manifest: Manifest, earlier: Sequence[PlannedStage], device: str
) -> PlannedStage:
    factory = catalog.find(entry.stage, where)
    if any(stage.name == factory.name for stage in earlier):
        raise UsageError(
            f"{where}: the stage '{factory.name}' stands twice; a stage runs once, and stages that judge captions "
            f"judge a generated one by themselves"
        )
    given = dict(entry.params)
    if factory.role and given.get("model") is None:
        given["model"] = manifest.models if manifest.models in ("embedded", "production") else "embedded"
    params = _params(factory, given, where)
    model = _model(factory.role, given["model"], where) if factory.role else None
    if "device" in factory.Params.model_fields:
        asked = getattr(params, "device", None)
        device = device_of(
            model or ModelInfo(factory.name, "", devices=factory.devices_with(params)), asked, device, f"{where}.device"
        )
        params = params.model_copy(update={"device": device})
    else:
        device = "cpu"
    reads = factory.reads_with(params)
    written = {name: stage.name for stage in earlier for name in stage.writes}
    if issubclass(factory, CaptionStage) and GENERATED in written:
        reads = (*reads, GENERATED)
    for name in reads:
        if name not in written and name not in RECORD_COLUMNS:
            maker = next((cls.name for cls in catalog.every() if name in cls.writes), None)
            hint = f"put `- {maker}` before it" if maker else "no stage writes it"
            raise UsageError(f"{where}: it reads the column '{name}', which nothing before it writes; {hint}")
    for name in factory.writes:
        if name in written or name in RECORD_COLUMNS:
            raise UsageError(
                f"{where}: it writes the column '{name}', which {written.get(name, 'the record')} already has"
            )
    types = _types(earlier)
    when = _expression(entry.when, f"{where}.when", types)
    _expression(
        entry.keep, f"{where}.keep", {**types, **{name: column.type for name, column in factory.writes.items()}}
    )
    needed = {*reads, *(when.names if when else ())}
    upstream = {stage.name: stage.fingerprint for stage in earlier if set(stage.writes) & needed}
    fingerprint = digest(
        [
            factory.name,
            factory.version,
            params.model_dump(mode="json", exclude=set(params.valueless)),
            entry.when,
            model and (model.id, model.sha256),
            upstream,
            *_decoder(reads, manifest),
        ]
    )
    resources = factory.resources_with(params)
    return PlannedStage(
        *(factory.name, factory, params, entry.keep, entry.when, fingerprint, model, resources, reads, device),
        late=GENERATED in written,
    )


def _second_turn(stage: PlannedStage, earlier: Sequence[PlannedStage]) -> PlannedStage:
    """The same stage over a caption that was generated behind it, with the same gate.

    A condition on the source's captions says nothing about this one, and is left out.
    """
    when = f"{GENERATED} is not null"
    of_captions = {"caption", "captions", *(name for other in earlier for name in other.writes if _is_judged(other))}
    if stage.condition and not stage.condition.names & of_captions:
        when = f"({stage.when}) and {when}"
    makers = [other.fingerprint for other in earlier if GENERATED in other.writes]
    return replace(
        stage,
        name=f"{stage.name}_generated",
        when=when,
        fingerprint=digest([stage.fingerprint, when, makers]),
        reads=(*stage.reads, GENERATED),
        second=True,
        late=True,
    )


def _is_judged(stage: PlannedStage) -> bool:
    return issubclass(stage.factory, CaptionStage)


def device_of(model: ModelInfo | None, asked: str | None, run: str, where: str) -> str:
    """Where a model computes: where it was asked to, otherwise on the run's device if it can, else on the CPU.

    Raises UsageError where it cannot compute on the device that it was asked to.
    """
    devices = model.devices if model else ("cpu",)
    if asked and asked not in devices:
        name = model.id if model else "a stage without a model"
        raise UsageError(f"{where}: {name} computes on a CPU alone; leave `device: {asked}` out")
    return asked or (run if run in devices else "cpu")


def _decoder(reads: Sequence[str], manifest: Manifest) -> list[Any]:
    """What else decides a value of pixels: how pictures are decoded, and by which decoder videos are."""
    return [DECODE_VERSION, manifest.engine.video_decoder] if "pixels" in reads else []


def _params(factory: type[Stage], given: dict[str, Any], where: str) -> Params:
    try:
        return factory.Params.model_validate(given)
    except ValidationError as error:
        known = [*factory.Params.model_fields, "keep", "when"]
        raise UsageError("\n".join(_param_sentence(item, known, where) for item in error.errors())) from error


def _param_sentence(item: Any, known: list[str], where: str) -> str:
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"{where}: no such key '{key}'{suggest(key, known)}; there are: {', '.join(known)}"
    return f"{where}.{key}: {item['msg'].removeprefix('Value error, ')} (given: {str(item.get('input'))[:80]})"


def _model(role: str, spec: str, where: str) -> ModelInfo:
    try:
        info = describe(role, spec)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if info.problem:
        raise UsageError(
            f"{where}: the model '{spec}' for {role} cannot be had: {info.problem}. `model: embedded` needs no hub."
        )
    return info


def _expression(text: str | None, where: str, types: Types) -> Expression | None:
    if text is None:
        return None
    expression = parse(text, where)
    if expression.uses_percentiles:
        raise UsageError(f"{where}: a percentile needs the whole corpus; put '{text}' under select: keep:")
    check_names_and_types(expression, where, types)
    return expression


def _types(stages: Sequence[PlannedStage]) -> Types:
    """Of the columns that a record has behind these stages."""
    own = {field.name: field.type for field in BASE_SCHEMA}
    return own | {name: column.type for stage in stages for name, column in stage.writes.items()}


def _check_select(loaded: Loaded, stages: Sequence[PlannedStage]) -> None:
    """Hold `select:` against the columns that there will be."""
    check_select(loaded, {**_types(stages), "caption_repeats": pa.int64()})


def digest(value: Any) -> str:
    """16 hex digits of a JSON-able value, the same everywhere."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
