"""A picture that crashes, hangs or swells its decoder costs that picture and no other."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from curation.errors import Unavailable
from curation.media.decode import decode_image
from curation.media.sandbox import DecodeError, Decoder, Limits
from curation.media.standardize import Recipe, standardize

EVIL_WORKER = """
import numpy, os, pathlib, signal, sys, time
from curation.media import decode_worker

honest = decode_worker.answer

def answer(request, data, beat=None, ask=None):
    name, _, argument = data[:200].partition(b":")
    if name == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == b"exit":
        os._exit(7)
    if name == b"hang":
        time.sleep(3600)
    if name == b"slow":
        for _ in range(15):
            time.sleep(0.2)
            until = time.process_time() + 0.02
            while time.process_time() < until:
                pass
        data = pathlib.Path(__file__).with_name("photo.jpg").read_bytes()
    if name == b"spin":
        while True:
            pass
    if name == b"swell":
        swollen = [numpy.empty(64 << 20, numpy.uint8) for _ in range(1000)]  # not touched: quick on a busy machine
    if name == b"once" and not (marker := pathlib.Path(argument.decode())).exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == b"once":
        data = pathlib.Path(argument.decode()).with_suffix(".png").read_bytes()
    return honest(request, data)

decode_worker.answer = answer
decode_worker.main()
"""


def packed(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


PHOTO = packed(Image.fromarray(data.astronaut()), "JPEG")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(Limits())
    yield made
    made.close()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Decoder]:
    """A decoder whose child does what the bytes say: crash, exit, hang, swell, or die once."""
    script = tmp_path / "worker.py"
    script.write_text(EVIL_WORKER)
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    made = Decoder(Limits(seconds=1.0, memory_mb=500), command=(sys.executable, str(script)))
    yield made
    made.close()


def refusal(decoder: Decoder, raw: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decoder.decode(raw)
    return str(caught.value)


def test_what_comes_through_the_pipe_is_what_was_decoded(decoder: Decoder) -> None:
    image, info = decode_image(PHOTO, Limits().max_pixels)
    pixels = decoder.decode(PHOTO)
    assert np.array_equal(pixels.rgb, np.asarray(image))
    assert pixels.info == info


def test_standardizing_in_the_child_is_standardizing(decoder: Decoder) -> None:
    recipe = Recipe(192, 128, crop="smart", box=(10, 20, 500, 480))
    expected = standardize(decode_image(PHOTO, Limits().max_pixels)[0], recipe)
    made = decoder.standardize(PHOTO, recipe)
    assert np.array_equal(made.rgb, expected.rgb)
    assert (made.resized, made.crop_ltrb) == (expected.resized, expected.crop_ltrb)
    assert made.info["format"] == "JPEG"


def test_a_content_box_of_another_picture_is_refused(decoder: Decoder) -> None:
    with pytest.raises(DecodeError, match=r"content box \[0, 0, 9999, 10\] is not inside the picture, 512x512"):
        decoder.standardize(PHOTO, Recipe(64, 64, box=(0, 0, 9999, 10)))


def test_a_refusal_is_the_decoders_sentence(decoder: Decoder) -> None:
    assert refusal(decoder, b"") == "the file is empty"
    assert refusal(decoder, PHOTO[:-4000]).startswith("cannot be decoded: ")
    assert decoder.decode(PHOTO).rgb.shape == (512, 512, 3)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"crash:", "the decoder died with SIGSEGV, 2 times"),
        (b"exit:", "the decoder ended with exit code 7, 2 times"),
        (b"hang:", "the decoder stood still for longer than 4 s, 2 times"),
        (b"spin:", "the decoder took longer than 1 s, 2 times"),
        (b"swell:", "the decoder ended with exit code 1, 2 times"),
    ],
)
def test_a_killer_is_refused_and_its_neighbours_are_not_touched(fragile: Decoder, raw: bytes, sentence: str) -> None:
    before = fragile.decode(PHOTO)
    assert refusal(fragile, raw) == sentence
    assert np.array_equal(fragile.decode(PHOTO).rgb, before.rgb)


def test_a_decoder_that_dies_once_gets_a_second_try(fragile: Decoder, tmp_path: Path) -> None:
    (tmp_path / "died.png").write_bytes(PHOTO)
    assert fragile.decode(f"once:{tmp_path / 'died'}".encode()).rgb.shape == (512, 512, 3)
    assert (tmp_path / "died").exists()


def test_a_child_that_was_killed_between_two_records_is_no_records_fault(fragile: Decoder) -> None:
    fragile.decode(PHOTO)
    assert fragile._child is not None
    fragile._child.kill()
    fragile._child.wait()
    assert refusal(fragile, b"crash:") == "the decoder died with SIGSEGV, 2 times"


def test_a_real_picture_that_needs_too_much_memory() -> None:
    small = Decoder(Limits(memory_mb=400))
    assert refusal(small, packed(Image.new("1", (10_000, 10_000)))) == (
        "decoding it takes more memory than engine.decode_memory_mb allows"
    )
    assert small.decode(PHOTO).rgb.shape == (512, 512, 3)
    small.close()


def test_a_real_picture_that_takes_too_long() -> None:
    hasty = Decoder(Limits(seconds=0.05))
    assert refusal(hasty, packed(Image.new("L", (10_000, 10_000)))) == "the decoder took longer than 0.05 s, 2 times"
    hasty.close()


def test_more_pixels_than_allowed() -> None:
    strict = Decoder(Limits(max_pixels=512 * 512 - 1))
    assert "decompression bomb" in refusal(strict, PHOTO)
    strict.close()


def test_a_large_picture_fits_through_the_pipes(decoder: Decoder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    raw = packed(Image.fromarray(noise), "BMP")
    assert len(raw) > 9_000_000
    assert np.array_equal(decoder.decode(raw).rgb, noise)


def test_two_threads_may_share_a_decoder(decoder: Decoder) -> None:
    pictures = [packed(Image.new("RGB", (50 + n, 40), (n, 0, 0))) for n in range(20)]
    seen: dict[int, tuple[int, ...]] = {}

    def work(part: range) -> None:
        for n in part:
            seen[n] = decoder.decode(pictures[n]).rgb.shape

    threads = [threading.Thread(target=work, args=(range(first, 20, 2),)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {n: (40, 50 + n, 3) for n in range(20)}


def test_a_decoder_outlives_the_thread_that_started_it(decoder: Decoder) -> None:
    thread = threading.Thread(target=decoder.decode, args=(PHOTO,))
    thread.start()
    thread.join()
    assert decoder.decode(PHOTO).rgb.shape == (512, 512, 3)


def test_the_environment_and_the_folder_do_not_lead_the_child_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: Decoder
) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert decoder.decode(PHOTO).rgb.shape == (512, 512, 3)


def test_packages_beside_this_one_do_not_hide_the_standard_library(tmp_path: Path) -> None:
    """Installed for real, this package lies in a folder with others: img2dataset brings dataclasses 0.6 there."""
    root = Path(__file__).resolve().parents[1]
    shutil.copytree(root / "curation", tmp_path / "curation", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    (tmp_path / "dataclasses.py").write_text("raise SystemExit(9)")
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    program = (
        "import sys, dataclasses, pathlib; sys.path.insert(0, sys.argv[1]); from curation.media import sandbox; "
        "assert sandbox.ROOT == sys.argv[1]; data = pathlib.Path(sys.argv[1], 'photo.jpg').read_bytes(); "
        "print(sandbox.Decoder(sandbox.Limits()).decode(data).rgb.shape)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "(512, 512, 3)", done.stderr


def test_a_busy_machine_costs_no_picture(fragile: Decoder) -> None:
    """What counts is the time that the child computes: 0.3 s of the 3 s that this one takes, where 1 s is allowed."""
    assert fragile.decode(b"slow:").rgb.shape == (512, 512, 3)


def test_decoders_that_die_one_after_another_stop_the_run() -> None:
    dying = Decoder(Limits(seconds=5), command=(sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(Unavailable, match=r"failed 50 times in a row .*exit code 3.*not with the records"):
        for _ in range(30):
            with contextlib.suppress(DecodeError):
                dying.decode(PHOTO)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in the middle of a picture"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_dies_with_its_parent(tmp_path: Path, busy: bool) -> None:
    (tmp_path / "worker.py").write_text(EVIL_WORKER)
    program = f"""
import sys
from curation.media.sandbox import Decoder, Limits
decoder = Decoder(Limits(seconds=600), command=(sys.executable, {str(tmp_path / "worker.py")!r}))
try:
    decoder.decode(b"")
except Exception:
    print(decoder._child.pid, flush=True)
{'decoder.decode(b"hang:")' if busy else "sys.stdin.read()"}
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended but was not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
