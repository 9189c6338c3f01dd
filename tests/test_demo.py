"""The demos' corpora say what they show, and their judges see it: true captions pass, altered pictures do not."""

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.demo import digits, judge_moving, judge_shapes, moving, shapes
from curation.demo.drawing import COLORS, SHAPES, Thing, background, draw
from curation.demo.moving import MOTIONS, THINGS, Motion
from curation.demo.seeing import direction, regions, relation
from curation.demo.shapes import Scene, pairs, scenes


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def moving_build(folder: Path) -> int:
    return moving.build(folder, 6, 3)


@pytest.mark.parametrize(
    ("build", "count"),
    [(lambda f: digits.build(f, 20), 20), (lambda f: shapes.build(f, 20), 20), (moving_build, 9)],
    ids=["digits", "shapes", "moving"],
)
def test_a_corpus_is_the_same_every_time(tmp_path: Path, build: Callable[[Path], int], count: int) -> None:
    assert build(tmp_path / "a") == build(tmp_path / "b") == count
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    rows = [json.loads(line) for line in (tmp_path / "a" / "captions.jsonl").read_text().splitlines()]
    assert len({row["file"] for row in rows}) == count == len(digests(tmp_path / "a")) - 1
    assert all((tmp_path / "a" / row["file"]).is_file() for row in rows)


def test_enlarged_and_reduced_is_the_same() -> None:
    pictures, _ = digits.load()
    big = np.stack([digits.enlarge(picture) for picture in pictures])
    assert big.shape == (1797, 64, 64, 3) and big.dtype == np.uint8
    assert np.array_equal(np.round(digits.reduce(big)), pictures)
    assert np.abs(digits.reduce(big) - pictures).max() <= 16 / 255 / 2 + 1e-9


def test_digits_are_told_by_their_own_names(tmp_path: Path) -> None:
    digits.build(tmp_path, 50)
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    pictures, labels = digits.load()
    for row, picture, label in zip(rows, pictures, labels, strict=False):
        assert row["caption"] == f"a handwritten {digits.WORDS[label]}"
        assert np.array_equal(np.asarray(Image.open(tmp_path / row["file"])), digits.enlarge(picture))


def test_all_shapes_captions_are_true_of_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for scene in scenes(pairs()[0]) + scenes(pairs()[1]):
        shown = shapes.picture(scene, rng)
        assert all(judge_shapes.looked_at(shown, scene).values()), scene
        assert all(judge_shapes.looked_at(shown, scene.turned).values()), scene


def test_captions_are_read_back() -> None:
    assert all(Scene.of(scene.caption) == scene for scene in scenes(pairs()[0]))
    assert all(Motion.of(motion.caption) == motion for motion in MOTIONS + THINGS)
    for of in (Scene.of, Motion.of):
        with pytest.raises(ValueError, match="'a photo of a cat' is no caption of"):
            of("a photo of a cat")


def test_some_pairs_are_never_drawn(tmp_path: Path) -> None:
    drawn, never = pairs()
    assert (len(drawn), len(never)) == (48, 6) and not set(drawn) & set(never)
    assert {thing for pair in drawn for thing in pair} == {thing for pair in drawn + never for thing in pair}
    shapes.build(tmp_path, 300)
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    told = {frozenset((s.first, s.second)) for row in rows for s in map(Scene.of, row["captions"])}
    assert not told & {frozenset(pair) for pair in never}


SCENE = Scene(("red", "circle"), "left of", ("blue", "square"))


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        (Scene(("blue", "circle"), "left of", ("red", "square")), {"shapes", "relation"}),
        (Scene(("green", "circle"), "left of", ("blue", "square")), {"colours", "shapes", "relation"}),
        (Scene(("red", "square"), "left of", ("blue", "square")), {"shapes"}),
        (Scene(("red", "circle"), "left of", ("blue", "triangle")), {"shapes"}),
        (Scene(("red", "circle"), "right of", ("blue", "square")), {"relation"}),
        (Scene(("red", "circle"), "above", ("blue", "square")), {"relation"}),
    ],
    ids=lambda value: value.caption if isinstance(value, Scene) else "",
)
def test_a_wrong_scene_is_seen(other: Scene, wrong: set[str]) -> None:
    checks = judge_shapes.looked_at(shapes.picture(other, np.random.default_rng(0)), SCENE)
    assert {part for part, holds in checks.items() if not holds} == wrong


def test_a_mirrored_layout_is_wrong() -> None:
    picture = shapes.picture(SCENE, np.random.default_rng(0))
    assert not judge_shapes.looked_at(picture[:, ::-1].copy(), SCENE)["relation"]
    assert judge_shapes.looked_at(picture[:, ::-1].copy(), Scene(SCENE.first, "right of", SCENE.second))["relation"]


def test_a_third_thing_makes_the_colours_wrong() -> None:
    things = [*shapes.place(SCENE, np.random.default_rng(0)), Thing("circle", "green", 32, 8, 12)]
    checks = judge_shapes.looked_at(draw(background(np.random.default_rng(0)), things), SCENE)
    assert checks == {"colours": False, "shapes": True, "relation": True}


def test_nothing_is_seen_in_noise_and_grey() -> None:
    grey = draw(background(np.random.default_rng(0)), [])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert regions(grey) == {}
    assert {region.shape for region in regions(noise).values()} <= {None}
    assert not any(judge_shapes.looked_at(grey, SCENE).values())


def test_a_thing_is_found_where_it_was_drawn() -> None:
    for shape in SHAPES:
        for color in COLORS:
            region = regions(draw(background(np.random.default_rng(1)), [Thing(shape, color, 30, 20, 24)]))[color]
            low = 4 if shape == "triangle" else 0  # a triangle's centre of gravity lies a sixth of its height lower
            assert (region.x, region.y) == pytest.approx((29.5, 19.5 + low), abs=0.5) and region.shape == shape


def test_relations_and_directions_are_of_picture_coordinates() -> None:
    things = [Thing("circle", "red", 14, 32, 20), Thing("circle", "blue", 50, 34, 20)]
    seen = regions(draw(background(np.random.default_rng(0)), things))
    assert relation(seen["red"], seen["blue"]) == "left of" and relation(seen["blue"], seen["red"]) == "right of"
    assert relation(seen["red"], seen["red"]) is None
    assert direction([seen["red"], seen["red"], seen["blue"]]) == "right"
    assert direction([seen["red"]] * 9) is None and direction([seen["red"], seen["blue"]]) is None


def test_all_moving_captions_are_true_of_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for motion in MOTIONS + THINGS:
        assert all(judge_moving.looked_at(moving.clip(motion, rng), motion).values()), motion


@pytest.mark.parametrize("motion", MOTIONS[:4], ids=lambda motion: motion.way)
def test_a_clip_backwards_or_still_goes_elsewhere(motion: Motion) -> None:
    clip = moving.clip(motion, np.random.default_rng(0))
    for wrong in (clip[::-1], clip[:1].repeat(9, 0)):
        checks = judge_moving.looked_at(wrong, motion)
        assert checks == {"colour": True, "shape": True, "direction": False}


def test_a_moving_thing_never_leaves_the_picture_and_keeps_its_pace() -> None:
    for number, motion in enumerate(MOTIONS):
        clip = moving.clip(motion, np.random.default_rng(number))
        path = [regions(frame)[motion.color] for frame in clip]
        sizes = [region.pixels for region in path]
        assert max(sizes) - min(sizes) < 0.15 * max(sizes)
        steps = [abs(b.x - a.x) + abs(b.y - a.y) for a, b in pairwise(path)]
        assert max(steps) - min(steps) < 1.2 and np.mean(steps) == pytest.approx(16 / 8, abs=0.3)
