"""Whether two thumbnails show the same: laid over each other, mirrored, cropped or turned a little, they must agree.

Features say which pairs might be copies; what they overlook (another colour, another moment before the same wall)
shows where the pictures themselves are compared. First the place of one in the other is searched at half size by
normalised cross-correlation over scales, both ways round and mirrored; the best places are refined to an affine map by
the enhanced correlation coefficient (Evangelidis & Psarakis 2008); then the two must agree in the common part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.media.thumbnail import COLOUR_SIDE, SIDE, unpacked

Image = NDArray[np.float32]
Map = NDArray[np.float32]
"""float32 [2, 3]: pixels of one picture -> pixels of another."""
HALF = SIDE // 2
SCALES = (1.0, 0.89, 0.79, 0.7, 0.62, 0.55)
SQUEEZES = ((1.0, 1.0), (1.0, 0.94), (0.94, 1.0))
"""A crop seldom has just the aspect ratio of the whole, while thumbnails are square."""
CENTRE = 0.76
"""This share of the sides of one is searched in the other, so that either may show what the other lacks."""
TRIED = 2
"""Places that are refined."""
COARSE = SIDE / 10
"""Detail finer than this many pixels is compared: the light and the layout of two pictures are often alike."""

MAY_BE = 0.5
"""The cosine of two `copy` vectors from which on two records are looked at here."""
LEAST_FULL, LEAST_DETAIL = 0.85, 0.8
"""Correlations of the luma and of its detail in the common part. On 99 photos that nothing was fitted on, copies
cropped to 70 % of their sides or more have 0.87 and more of detail, unrelated photos 0.74 at most."""
LEAST_COMMON, LEAST_SHOWN = 0.6, 0.2
"""Shares of the smaller and the larger part that both must show."""
MOST_GAIN = 2.0
"""How much more contrast one may have."""
VISIBLE, LEAST_VISIBLE = 3.0, 0.2
"""Levels of detail that show, and the share of a picture in which some must: a small sign on a plain ground tells
nothing. COCO photos have 0.37 and more, emoji 0.48."""
LEAST_SLOPE, LEAST_SLOPE_OF_CLIP = 8.0, 1.0
"""Mean square of the detail's slope in the direction in which it changes least (levels per pixel, the smaller
eigenvalue of the structure tensor): a gradient and a straight edge have next to none, a disc of light 5, photos 54
and more. A clip is known by what changes, too."""
SHIFT, OFF_COLOUR, MOST_OFF = 12.0, 24.0, 0.05
"""Levels by which all colours may have moved, by which one differs from the other beyond that, and the share of the
common part that may."""
CHANGED, LEAST_CHANGE = 2.0, 0.6
"""Levels (root mean square) by which a clip's frames differ from their mean where something moves, and the
correlation of two clips' changes: two takes before one wall agree in all but that."""


@dataclass(frozen=True)
class Place:
    """Where `other`, mirrored or not, lies in `one`."""

    mirrored: bool
    map: Map


def same(one: bytes, other: bytes) -> bool:
    """Whether two records' thumbnails (`curation.media.thumbnail`) show the same.

    Pictures: one is in the other. A picture and a clip: it is one of the clip's frames. Clips: their frames agree, each
    with that of the same moment and by one placement, and so do the changes from frame to frame.
    """
    mine, theirs = unpacked(one), unpacked(other)
    if len(mine) > 1 and len(theirs) > 1:
        return _same_clip(mine, theirs)
    mine, theirs = ([frame for frame in frames if tells(frame)] for frames in (mine, theirs))
    return any(_agree(a, b, place) for a in mine for b in theirs for place in _places(a, b))


def tells(image: Image, least: float = LEAST_SLOPE) -> bool:
    """Whether a picture shows enough to know it by: detail in a good part of it, and in more than one direction."""
    fine = detail(image[..., 0])
    across, down = np.diff(fine, axis=1)[:-1], np.diff(fine, axis=0)[:, :-1]
    mixed = float((across * down).mean())
    tensor = np.array([[float((across**2).mean()), mixed], [mixed, float((down**2).mean())]])
    slope = float(np.linalg.eigvalsh(tensor)[0])
    return slope >= least and float((np.abs(fine) > VISIBLE).mean()) >= LEAST_VISIBLE


def _same_clip(mine: Sequence[Image], theirs: Sequence[Image]) -> bool:
    count = min(len(mine), len(theirs))
    middle = count // 2
    if not all(tells(frames[middle], LEAST_SLOPE_OF_CLIP) for frames in (mine, theirs)):
        return False
    for place in _places(mine[middle], theirs[middle]):
        agreed = sum(_agree(a, b, place) for a, b in zip(mine, theirs, strict=False))
        if agreed >= max(2, count - 1) and _change_alike(mine[:count], theirs[:count], place):
            return True
    return False


def _change_alike(mine: Sequence[Image], theirs: Sequence[Image], place: Place) -> bool:
    """Whether what changes from frame to frame changes alike; nothing does in a still scene, which is alike."""
    laid = [_laid(a[..., 0], b[..., 0], place) for a, b in zip(mine, theirs, strict=True)]
    common = laid[0][2]
    if not common.any():
        return False
    ours, others = (np.stack([pair[i][common] for pair in laid]) for i in (0, 1))
    ours, others = ours - ours.mean(0), others - others.mean(0)
    if max(float(np.sqrt((change**2).mean())) for change in (ours, others)) < CHANGED:
        return True
    return correlation(ours, others) >= LEAST_CHANGE


def _places(one: Image, other: Image) -> Iterator[Place]:
    """Placements worth a look, the likeliest first: as a whole, mirrored, then those that a search finds."""
    a, b = detail(one[..., 0]), detail(other[..., 0])
    whole = np.eye(2, 3, dtype=np.float32)
    sides = [(False, b), (True, np.ascontiguousarray(b[:, ::-1]))]
    scores = [correlation(a, side) for _, side in sides]
    best = int(np.argmax(scores))
    if scores[best] > 0.3:
        yield Place(sides[best][0], _refined(a, sides[best][1], whole))
    small = _halved(a)
    found = [
        (score, mirrored, side, placed)
        for mirrored, side in sides
        for score, placed in [*_search(small, _halved(side)), *_turned_round(_search(_halved(side), small))]
    ]
    found.sort(key=lambda item: -item[0])
    for _, mirrored, side, placed in found[:TRIED]:
        yield Place(mirrored, _refined(a, side, placed))


def _search(within: Image, part: Image) -> Iterator[tuple[float, Map]]:
    """For each scale the best correlation of the centre of `part` somewhere in `within` (both half size), and the map
    of full-size pixels from `part` to `within`."""
    for scale in SCALES:
        for squeeze in SQUEEZES:
            size = [max(8, round(HALF * scale * side)) for side in squeeze]
            shrunk = cv2.resize(part, (size[0], size[1]), interpolation=cv2.INTER_AREA)
            cut = [int(side * (1 - CENTRE) / 2) for side in size]
            centre = shrunk[cut[1] : size[1] - cut[1], cut[0] : size[0] - cut[0]]
            _, score, _, at = cv2.minMaxLoc(cv2.matchTemplate(within, centre, cv2.TM_CCOEFF_NORMED))
            share = [side / HALF for side in size]
            offsets = [2 * (at[i] - cut[i]) + (share[i] - 1) / 2 for i in (0, 1)]
            yield float(score), np.array([[share[0], 0, offsets[0]], [0, share[1], offsets[1]]], np.float32)


def _turned_round(found: Iterator[tuple[float, Map]]) -> Iterator[tuple[float, Map]]:
    for score, placed in found:
        yield score, np.asarray(cv2.invertAffineTransform(placed), np.float32)


def _refined(one: Image, other: Image, placed: Map) -> Map:
    """The map that correlates best near `placed`; itself where none is found."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        _, better = cv2.findTransformECC(other, one, placed.copy(), cv2.MOTION_AFFINE, stop, None, 3)  # type: ignore[call-overload]
    except cv2.error:  # the pictures share too little for it to converge
        return placed
    return np.asarray(better, np.float32)


def _laid(one: Image, other: Image, place: Place) -> tuple[Image, Image, NDArray[np.bool_]]:
    """`one` as `other` would show it, `other` the right way round, and where both show something."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(one, place.map, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    common = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), place.map, (SIDE, SIDE), flags=flags) > 0.99
    turned = np.ascontiguousarray(other[:, ::-1]) if place.mirrored else other
    return np.asarray(laid, np.float32), turned, common


def _agree(one: Image, other: Image, place: Place) -> bool:
    laid, turned, common = _laid(one, other, place)
    of_other = float(common.mean())
    of_one = of_other * abs(float(np.linalg.det(place.map[:, :2].astype(np.float64))))
    if max(of_one, of_other) < LEAST_COMMON or min(of_one, of_other) < LEAST_SHOWN:
        return False
    a, b = laid[..., 0][common], turned[..., 0][common]
    fine_a, fine_b = (detail(np.ascontiguousarray(image[..., 0]))[common] for image in (laid, turned))
    visible = min(float((np.abs(fine) > VISIBLE).mean()) for fine in (fine_a, fine_b))
    gain = float(fine_a.std() / max(float(fine_b.std()), 1e-6))
    if visible < LEAST_VISIBLE / 2 or not 1 / MOST_GAIN <= gain <= MOST_GAIN:
        return False
    coloured = _off_colour(laid[..., 1:], turned[..., 1:], common)
    return correlation(a, b) >= LEAST_FULL and correlation(fine_a, fine_b) >= LEAST_DETAIL and coloured <= MOST_OFF


def _off_colour(one: Image, other: Image, common: NDArray[np.bool_]) -> float:
    """The share of the common part in which Cr and Cb (float32 [SIDE, SIDE, 2]) differ.

    Where both have an edge of colours they may differ by a quarter of it more: colours are stored in 12x12, so that in
    a crop the edge lies beside its place.
    """
    off = one - other
    off = off - np.clip(np.median(off[common], axis=0), -SHIFT, SHIFT)
    edge = np.minimum(*(np.linalg.norm(_spread(image), axis=2) for image in (one, other)))
    return float((np.linalg.norm(off, axis=2) > OFF_COLOUR + edge / 4)[common].mean())


def _spread(image: Image) -> Image:
    """The largest less the smallest value within half a cell of colours, around each pixel."""
    cell = np.ones((SIDE // COLOUR_SIDE + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(image, cell) - cv2.erode(image, cell), np.float32)


def detail(luma: Image) -> Image:
    """What is left without the coarse."""
    return np.asarray(luma - cv2.GaussianBlur(luma, (0, 0), COARSE), np.float32)


def _halved(luma: Image) -> Image:
    return np.asarray(cv2.resize(luma, (HALF, HALF), interpolation=cv2.INTER_AREA), np.float32)


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's, -1..1; 0 where one of both is flat."""
    a, b = one.astype(np.float64) - one.mean(), other.astype(np.float64) - other.mean()
    product = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / product if product > 1e-6 else 0.0
