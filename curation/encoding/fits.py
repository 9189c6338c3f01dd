"""Whether a manifest's buckets fit its VAE: found before a record is read, not by trailing frames that are gone."""

from curation.encoding.buckets import table
from curation.errors import UsageError
from curation.load import Loaded
from curation.manifest import EncodeSection
from curation.models import ModelInfo


def check_shapes(loaded: Loaded, vae: ModelInfo, clips: bool) -> None:
    """Raises UsageError with file, line and what would fit. `clips`: whether the manifest makes any.

    A VAE whose factors are not known before it is loaded passes: it refuses by itself what it cannot encode.
    """
    encode, accepted = loaded.manifest.encode, vae.accepted_sizes
    if encode is None or accepted is None:
        return
    if clips and not accepted.frames:
        where = loaded.where("encode", "vae")
        raise UsageError(
            f"{where}: {vae.id} encodes pictures and no clips; say `vae: video_autoencoder` or a video VAE"
        )
    wrong = [frames for frames in encode.frames if clips and (frames - 1) % accepted.frames]
    if wrong:
        fit = sorted({length for frames in wrong for length in nearest(frames, accepted.frames)})
        raise UsageError(
            f"{loaded.where('encode', 'frames')}: {vae.id} takes 1 + {accepted.frames}k frames and would lose the last "
            f"of {_listed(wrong)}; the nearest that fit: {_listed(fit)}"
        )
    if odd := _cut_sides(encode, accepted.side):
        raise UsageError(
            f"{loaded.where('encode', 'buckets')}: {vae.id} takes sides that are multiples of {accepted.side}, not "
            f"{', '.join(odd)}; say `multiple: {accepted.side}` beside `buckets: aspect`, or list others, such as "
            f"{_rounded(odd[0], accepted.side)}"
        )


def nearest(frames: int, step: int) -> tuple[int, int]:
    """The lengths 1 + k * step on both sides of one that is none."""
    below = 1 + (frames - 1) // step * step
    return below, below + step


def _cut_sides(encode: EncodeSection, side: int) -> list[str]:
    """Buckets, as a manifest says them, with a side that is no multiple of `side`."""
    return [f"{b.width}x{b.height}" for b in table(encode) if b.width % side or b.height % side]


def _rounded(bucket: str, side: int) -> str:
    return "x".join(str(max(side, round(int(part) / side) * side)) for part in bucket.split("x"))


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
