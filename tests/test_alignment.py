"""Thumbnails laid over each other: edits of a picture are found, what differs in more than an edit is not."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from helpers.scenes import pan
from PIL import Image, ImageDraw
from skimage import data

from curation.media.thumbnail import FRAME_BYTES, thumbnails
from curation.models.training.edits import EDITS, crop
from curation.pixels import Pixels
from curation.selection.alignment import same

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "hubble_deep_field")
PHOTOS = {name: Image.fromarray(getattr(data, name)()) for name in NAMES}
SURE = [name for name in EDITS if name != "crop 50-70 %"]


def of(image: Image.Image) -> bytes:
    return thumbnails(Pixels.of(np.asarray(image.convert("RGB"))))


@pytest.mark.parametrize("edit", SURE)
def test_an_edit_of_a_photo_is_a_copy(edit: str) -> None:
    rng = np.random.default_rng(1)
    names = [name for name in NAMES if (edit, name) != ("text", "hubble_deep_field")]  # letters outshine the stars
    found = {name: same(of(PHOTOS[name]), of(EDITS[edit](PHOTOS[name].convert("RGB"), rng))) for name in names}
    assert found == dict.fromkeys(names, True)


def test_it_does_not_matter_which_comes_first() -> None:
    rng = np.random.default_rng(2)
    for photo in PHOTOS.values():
        cut = EDITS["mirror"](crop(0.75, 0.85)(photo.convert("RGB"), rng), rng)
        assert same(of(cut), of(photo)) and same(of(photo), of(cut))


def test_other_photos_and_other_parts_of_one_are_no_copies() -> None:
    parts = {name: photo.crop((0, 0, photo.width // 2, photo.height // 2)) for name, photo in PHOTOS.items()}
    rest = {name: photo.crop((photo.width // 2, photo.height // 2, *photo.size)) for name, photo in PHOTOS.items()}
    assert not any(same(of(one), of(other)) for one, other in combinations(PHOTOS.values(), 2))
    assert not any(same(of(parts[name]), of(rest[name])) for name in NAMES)


def test_another_colour_is_no_copy() -> None:
    """A shirt in two colours, a photo with its channels exchanged."""

    def shirt(fill: str) -> Image.Image:
        image = Image.new("RGB", (320, 320), (244, 244, 240))
        ImageDraw.Draw(image).polygon([(90, 60), (230, 60), (290, 120), (230, 150), (230, 280), (90, 280)], fill=fill)
        return image

    for one, other in combinations(("firebrick", "seagreen", "royalblue", "darkviolet"), 2):
        assert not same(of(shirt(one)), of(shirt(other))), (one, other)
        assert same(of(shirt(one)), of(shirt(one).resize((200, 200))))
    coffee = data.coffee()
    assert not same(of(Image.fromarray(coffee)), of(Image.fromarray(coffee[..., ::-1])))


def test_edges_of_strong_colours_may_lie_beside_their_place() -> None:
    """A crop of a test card is a copy of it; a card with other colours of one brightness is none."""

    def card(hues: Sequence[str]) -> Image.Image:
        image = Image.new("RGB", (384, 288), "grey")
        draw = ImageDraw.Draw(image)
        for i, hue in enumerate(hues):
            draw.rectangle((16 + 44 * i, 20, 59 + 44 * i, 210), fill=hue)
            draw.ellipse((20 + 44 * i, 220, 50 + 44 * i, 270 - 5 * i), fill=hues[-1 - i])
        return image

    bars = card(["white", "yellow", "cyan", "lime", "magenta", "red", "blue", "black"])
    cut = bars.crop((29, 22, 355, 266))
    assert same(of(bars), of(cut)) and same(of(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), of(bars))
    luma, cb, cr = bars.convert("YCbCr").split()
    assert not same(of(bars), of(Image.merge("YCbCr", (luma, cr, cb))))


@pytest.mark.parametrize("ground", ["white", "black", "orange"])
def test_of_flat_grounds_nothing_is_told(ground: str) -> None:
    plain = Image.new("RGB", (320, 320), ground)
    signed = plain.copy()
    ImageDraw.Draw(signed).ellipse((150, 150, 170, 170), outline="grey", width=3)
    gradient = Image.linear_gradient("L").convert("RGB")
    assert not any(same(of(one), of(other)) for one in (plain, signed) for other in (plain, signed))
    assert not same(of(gradient), of(gradient))


def clip(frames: Sequence[np.ndarray]) -> bytes:
    return thumbnails(Pixels.clip(frames, len(frames), {}))


def test_clips_agree_moment_by_moment() -> None:
    frames, other = pan(1, 2)[::6], pan(2, 2)[::6]
    turned = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]
    cut = [np.ascontiguousarray(frame[9:-9, 15:-15]) for frame in frames]
    assert len(clip(frames)) == 4 * FRAME_BYTES
    assert same(clip(frames), clip(turned)) and same(clip(frames), clip(cut)) and same(clip(cut), clip(turned))
    assert not same(clip(frames), clip(other)) and not same(clip(frames), clip(frames[::-1]))


def test_another_take_before_the_same_wall_is_another_clip() -> None:
    """Something small moves, each time on another way."""
    wall = np.asarray(PHOTOS["chelsea"].resize((192, 128)))

    def take(places: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        out = []
        for x, y in places:
            frame = wall.copy()
            frame[y : y + 40, x : x + 40] = (230, 220, 60)
            out.append(frame)
        return out

    one = [(10, 10), (50, 30), (90, 50), (130, 70)]
    other = [(130, 10), (20, 80), (70, 5), (10, 40)]
    assert same(clip(take(one)), clip([np.ascontiguousarray(frame[:, ::-1]) for frame in take(one)]))
    assert not same(clip(take(one)), clip(take(other)))


def test_a_photo_is_in_a_clip_that_shows_it() -> None:
    coffee = data.coffee()
    frames = [np.ascontiguousarray(coffee[x : x + 200, 2 * x : 2 * x + 300]) for x in range(0, 80, 10)]
    photo = Image.fromarray(frames[5]).resize((300, 200)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert same(of(photo), clip(frames)) and same(clip(frames), of(photo))
    assert not same(of(PHOTOS["chelsea"]), clip(frames))
