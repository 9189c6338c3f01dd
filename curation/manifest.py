"""What a manifest may say. Every section is frozen and refuses keys it does not know."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from curation.models.text_presets import Text, TextSection, text_spec
from curation.video.rates import standard


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


class SourceSection(Section):
    """Where records come from: just one of table, folder, webdataset, urls."""

    table: str | None = Field(
        None, description="jsonl, csv, tsv or parquet, or a folder of them; a path or URL, `*` and {000..099} allowed"
    )
    folder: str | None = Field(
        None, description="pictures and videos with .txt, .caption or .json files beside them, searched recursively"
    )
    webdataset: str | None = Field(
        None, description="tar files, or a folder of them; a path or URL, `*` and {000..099} allowed"
    )
    urls: str | None = Field(None, description="a table of URLs, downloaded by img2dataset")
    media: str | None = Field(None, description="column with a path (relative to the table), a URL, or bytes")
    caption: str | None = Field(None, description="column with a caption or a list of captions")
    key: str | None = Field(None, description="column with the record's name; default the path, URL or archive key")
    clips: str | None = Field(
        None,
        description='column with a video\'s clips, a list of [start, end] in seconds or "HH:MM:SS.mmm"; a list of as '
        "many captions gives each its own",
    )
    allow: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        (), description="prefixes such as s3://bucket/photos/ below which a table's cells may name objects"
    )
    private_addresses: bool = Field(False, description="allow URLs that lead to private or loopback addresses")
    timeout_s: float = Field(20.0, gt=0, le=86_400, description="seconds for one download")
    retries: int = Field(1, ge=0, le=100, description="how often a failed download is tried again")
    max_mb: float = Field(
        100.0,
        gt=0,
        le=1_000_000,
        description="larger pictures, downloads and cells are quarantined, MB; a video in a file may have any size",
    )

    @field_validator("allow")
    @classmethod
    def _are_prefixes(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in allow:
            if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]+/", prefix):
                raise ValueError(f"'{prefix}' is no prefix that can be allowed; say one such as s3://bucket/photos/")
        return allow

    @model_validator(mode="after")
    def _one_kind(self) -> "SourceSection":
        given = [name for name in ("table", "folder", "webdataset", "urls") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"a source names just one of table, folder, webdataset, urls; this one names {given or 'none'}"
            )
        return self


class StageEntry(Section):
    """A line under `score:`: the stage, its gate, its condition, its own parameters."""

    stage: str
    keep: str | None = None
    when: str | None = None
    params: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_line(cls, line: Any) -> Any:
        """`aesthetic` or `{resolution: {keep: "min_side >= 128"}}` as one shape."""
        if isinstance(line, str):
            return {"stage": line}
        if isinstance(line, Mapping) and "stage" not in line:
            if len(line) != 1:
                raise ValueError(f"a line under score: is one stage, this one has {sorted(map(str, line))}")
            ((name, params),) = line.items()
            if params is not None and not isinstance(params, Mapping):
                raise ValueError(
                    f"below the stage {name} stand keep, when and its parameters, such as `model: embedded`"
                )
            params = dict(params or {})
            return {"stage": name, "keep": params.pop("keep", None), "when": params.pop("when", None), "params": params}
        return line


COMPARED: Mapping[str, tuple[str, ...]] = {
    "bytes": ("sha256",),
    "pixels": ("pixel_sha256",),
    "phash": ("phash", "phash_look"),
    "copy": ("copy", "thumbnail"),
    "embedding": ("embedding",),
}
"""The columns that `duplicates: {on: ...}` compares, the first of them by itself or before the others."""
LARGE = frozenset({"embedding", "copy", "thumbnail"})
"""Columns that a decision reads by themselves, file by file, where a section compares them; no condition reads them."""


class DuplicatesSection(Section):
    """Which records count as the same, and which of them stays."""

    on: Literal["bytes", "pixels", "phash", "copy", "embedding"]
    threshold: float | None = Field(
        None,
        description="phash: largest Hamming distance (default 6); embedding: smallest cosine (default 0.95); "
        "copy: cosine from which on two pictures are laid over each other, which decides",
    )
    share: float = Field(
        0.7,
        gt=0,
        le=1,
        description="phash, clips only: as much of a clip's frames must be shown, in order, by the clip that stays",
    )
    prefer: tuple[str, ...] = Field((), description="columns, best first; `-column` where less is better")
    method: Literal["auto", "flat", "clustered"] = Field(
        "auto", description="embedding and copy: exact join, or k-means first"
    )
    captions: Literal["merge", "drop"] | None = Field(
        None,
        description="merge: the record that stays takes over the captions of those that fall to it (default for bytes "
        "and pixels); drop: they fall with them (default for phash and embedding)",
    )
    against: tuple[str, ...] = Field((), description="run directories whose kept records also count as already there")

    @property
    def merges_captions(self) -> bool:
        return self.captions == "merge" if self.captions else self.on in ("bytes", "pixels")


def _duplicates(value: Any) -> Any:
    """`exact` and `near` as the words of the manifest's contract; a mapping or a list of both."""
    words = {
        "exact": [{"on": "bytes"}, {"on": "pixels"}],
        "near": [{"on": "bytes"}, {"on": "pixels"}, {"on": "phash"}, {"on": "copy"}],
    }
    out: list[Any] = []
    for item in _as_list(value):
        if isinstance(item, str) and item not in words:
            raise ValueError(f"duplicates: '{item}' is not a word for it; say exact, near, or a mapping with `on:`")
        out += words[item] if isinstance(item, str) else [item]
    return out


class CapSection(Section):
    """At most `most` records for each value of a column (`extra.NAME` or `extra["any name"]` for one of the source).

    Records without a value are not counted, and all stay.
    """

    by: str
    most: int = Field(gt=0, strict=True)
    prefer: tuple[str, ...] = ()


class SelectSection(Section):
    keep: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        (),
        description='such as "aesthetic >= p20". Several are met in turn: a percentile is over what those before it '
        "left; joined by `and` in one line, all are over the same records",
    )
    duplicates: Annotated[tuple[DuplicatesSection, ...], BeforeValidator(_duplicates)] = ()
    caps: Annotated[tuple[CapSection, ...], BeforeValidator(_as_list)] = ()
    sample: int | float | None = Field(
        None, gt=0, description="keep this many (or this share, below 1) of what is left, seeded"
    )

    @field_validator("sample", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("say how many records, or which share of them, such as 0.1")
        if isinstance(value, float) and value > 1 and not value.is_integer():
            raise ValueError(f"{value} is neither a number of records nor a share of them, 1 at most")
        return value

    @field_validator("sample")
    @classmethod
    def _is_whole_or_a_share(cls, value: int | float | None) -> int | float | None:
        """1000.0 and 1e3 are so many records."""
        if isinstance(value, float) and value > 1:
            if not value.is_integer():
                raise ValueError(f"{value} is neither a number of records nor a share of them, 1 at most")
            return int(value)
        return value


class ShardsSection(Section):
    format: Literal["webdataset", "parquet"] = "webdataset"
    samples: int = Field(
        1000, gt=0, le=10_000_000, description="samples in a shard; the last of a bucket may have less"
    )


class MediaSection(Section):
    """Standardized pixels as files. `media: true` is this with its defaults."""

    crf: float = Field(18.0, ge=0, le=51, description="of H.264: 0 lossless in yuv420p, 18 hardly visible, 51 worst")
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = Field(
        "medium", description="of x264: slower ones give smaller files"
    )
    gop: int = Field(
        24, gt=0, le=100_000, description="frames from one keyframe to the next; the first frame is always one"
    )
    images: Literal["jpg", "png", "webp"] = Field(
        "jpg", description="how pictures are written: jpg (quality 95, no chroma subsampling), png or webp (lossless)"
    )


def _media(value: Any) -> Any:
    """`true` and `false` for the defaults and nothing."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _extra(value: Any) -> Any:
    """`false` for none, one name as a list of it."""
    return () if value is False else value if value is True else _as_list(value)


def _rate(value: Any) -> Any:
    """A frame rate as a number: of a fraction its value, of 23.976 or 29.97 the exact rate that is meant."""
    if value == "source":
        return value
    try:
        rate = float(Fraction(value)) if isinstance(value, str) else float(value)
    except (ValueError, ZeroDivisionError, TypeError):
        raise ValueError(
            f"'{value}' is no frame rate; say a number, a fraction such as 24000/1001, or source"
        ) from None
    if not 0 < rate <= 240:
        raise ValueError(f"{value} is no frame rate that can be had; say one above 0, to 240 at most")
    return standard(rate)


def _kind_of_text(value: Any) -> str:
    """Which of the forms of `text:` a value is, so that a mistake is told of that form alone."""
    if value is None or isinstance(value, str):
        return "null" if value is None else "name"
    return "list" if isinstance(value, list | tuple) else "encoder"


class EncodeSection(Section):
    size: int = Field(
        256, gt=0, le=65_536, multiple_of=8, description="side of the square whose area every bucket has, px"
    )
    buckets: tuple[str, ...] | Literal["square", "aspect"] = Field(
        "square",
        description='"square", "aspect" (1:2 to 2:1), or a list such as ["256x256", "320x192"] (width x height)',
    )
    multiple: int = Field(
        16,
        gt=0,
        le=65_536,
        multiple_of=8,
        description="sides of `aspect` buckets are multiples of it, px: the VAE's 8 (LTX: 32) times a DiT's patch",
    )
    fps: Annotated[float | Literal["source"], BeforeValidator(_rate)] = Field(
        24.0,
        description="clips are encoded at this constant rate, by timestamps: a number (23.976 means 24000/1001), a "
        "fraction such as 24000/1001, or `source` for each file's own rate",
    )
    frames: Annotated[tuple[int, ...], BeforeValidator(_as_list)] = Field(
        (9, 17, 33, 49, 81),
        description="lengths that clips may have, frames; a clip takes the longest that it fills",
    )
    crop: Literal["center", "smart"] = "center"
    remove_letterbox: bool = Field(
        True,
        description="leave out bars of one colour at two sides of a filled frame, or at four: in black up to a fifth "
        "of each side, in other colours up to a tenth. More than that around a picture is a page, which stays",
    )
    filter: Literal["lanczos", "bicubic", "box"] = "lanczos"
    upscale: bool = Field(True, description="enlarge records smaller than their bucket; otherwise they are dropped")
    latents: bool = Field(True, description="encode with the VAE; false for `media:` alone, no VAE is loaded then")
    media: Annotated[MediaSection | None, BeforeValidator(_media)] = Field(
        None,
        description="write the standardized pixels too (same span, rate, size and crop): clips as H.264 mp4 with "
        "exactly their bucket's frames, pictures as jpg, png or webp; `true`, or crf, preset, gop, images",
    )
    vae: str = "embedded"
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the VAE's convolutions and products when it encodes; bf16 (autocast) is faster on a GPU and "
        "moves latents by one or two hundredths of their spread",
    )
    text: Annotated[
        Annotated[str, Tag("name")]
        | Annotated[TextSection, Tag("encoder")]
        | Annotated[tuple[Text, ...], Tag("list")]
        | Annotated[None, Tag("null")],
        Discriminator(_kind_of_text),
    ] = Field(
        "embedded",
        description="the text encoder: embedded, a family's (sdxl, sd3, flux, wan, hunyuanvideo, ltx, qwen-image), a "
        "mapping with `model:` and its settings, or a list; null beside `latents: false` for captions as words",
    )
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="where the VAE and the text encoder compute; default: the manifest's `device:`"
    )
    logvar: bool = Field(True, description="store the posterior's log-variance where the VAE has one")
    batch: int = Field(8, gt=0, le=65_536)
    captions: int = Field(8, gt=0, le=10_000, description="how many captions of a record are stored and encoded")
    extra: Annotated[tuple[str, ...] | Literal[True], BeforeValidator(_extra)] = Field(
        (),
        description="the source's own columns or sidecar keys that samples hold under `extra`, such as [licence, url]; "
        "true for all. Changing it writes shards anew, but encodes nothing again",
    )
    reconstructions: int = Field(
        8, ge=0, le=100_000, description="how many samples are decoded again into reconstructions/"
    )
    shards: ShardsSection = ShardsSection()

    @field_validator("frames")
    @classmethod
    def _are_lengths(cls, frames: tuple[int, ...]) -> tuple[int, ...]:
        if not frames or min(frames) < 1 or max(frames) > 1_000_000:
            raise ValueError("say at least one number of frames, each from 1 to 1,000,000, such as [17, 49]")
        return tuple(sorted(set(frames)))

    @model_validator(mode="after")
    def _writes_something(self) -> "EncodeSection":
        if not self.latents and self.media is None:
            raise ValueError("with `latents: false` there is nothing to write; say `media: true` beside it")
        if self.latents and self.text is None:
            raise ValueError("latents are trained on with text states; `text: null` goes with `latents: false`")
        return self

    @field_validator("text")
    @classmethod
    def _names_encoders(cls, text: Any) -> Any:
        if text is not None:
            text_spec(text)
        return text

    @property
    def text_model(self) -> str:
        """The text encoders as the name of one model; "" where captions are words alone."""
        return "" if self.text is None else text_spec(self.text)

    @field_validator("buckets")
    @classmethod
    def _are_buckets(cls, buckets: tuple[str, ...] | str) -> tuple[str, ...] | str:
        for text in () if isinstance(buckets, str) else buckets:
            sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
            if not sides or not int(sides[1]) or not int(sides[2]) or int(sides[1]) % 8 or int(sides[2]) % 8:
                raise ValueError(f"'{text}' is no bucket; say WIDTHxHEIGHT in multiples of 8, such as 320x192")
        if not buckets:
            raise ValueError("an empty list leaves nothing to encode into; say square, aspect or WIDTHxHEIGHT")
        return buckets


class EngineSection(Section):
    """How the work is cut and guarded; none of it changes a byte but the size of chunks and video_decoder."""

    rows_per_chunk: int = Field(
        64, gt=0, le=1_000_000, description="what a crash costs, and what one worker takes at once"
    )
    video_mb_per_chunk: float = Field(
        16.0, gt=0, le=1_000_000, description="a chunk ends earlier where its videos have so many MB"
    )
    workers: int | None = Field(None, gt=0, le=100_000, description="score and encode workers; default from the CPUs")
    record_seconds: float = Field(
        30.0,
        gt=0,
        le=10_000_000,
        description="CPU seconds for decoding one record; for a video, until it shows a sign of life",
    )
    video_seconds: float = Field(
        10_800.0, gt=0, le=10_000_000, description="CPU seconds for going through one whole video"
    )
    video_decoder: Literal["pyav", "decord"] = "pyav"
    max_pixels: int = Field(120_000_000, gt=0, le=10**10, description="larger pictures are quarantined before decoding")
    decode_memory_mb: int = Field(3000, gt=0, le=10_000_000, description="address space of a decoder process")
    gpu_memory_gb: float | None = Field(
        None, gt=0, description="of the smallest GPU, where `curate plan` runs on a machine without it"
    )
    attempts: int = Field(3, gt=0, le=1000, description="how often a chunk is tried when its worker dies")


class Manifest(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0)
    source: Annotated[tuple[SourceSection, ...], BeforeValidator(_as_list), Field(min_length=1)]
    models: str = "embedded"
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models compute that can on a GPU; auto: on a GPU where there is one"
    )
    score: tuple[StageEntry, ...] = ()
    select: SelectSection = SelectSection()
    encode: EncodeSection | None = None
    engine: EngineSection = EngineSection()
    train: Mapping[str, Any] | None = Field(None, description="read by `curate train`")
