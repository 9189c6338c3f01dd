"""The child process of curation.media.sandbox: requests on stdin, answers on stdout, dies with its parent.

A frame is a JSON header's length, the body's length (both uint32), the header, the body.
"""

import ctypes
import json
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from curation.media.decode import NO_MEMORY, decode_image
from curation.media.standardize import Recipe, standardize

Ask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A child's question to a network of its parent's: a batch of rows, and an answer for each."""
FRAME = struct.Struct("<II")
PR_SET_PDEATHSIG = 1


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Header and body, None at the end of the stream."""
    lengths = stream.read(FRAME.size)
    if len(lengths) < FRAME.size:
        return None
    header, body = FRAME.unpack(lengths)
    return json.loads(stream.read(header)), stream.read(body)


def write_frame(stream: BinaryIO, header: dict[str, Any], body: bytes | memoryview) -> None:
    raw = json.dumps(header).encode()
    stream.write(FRAME.pack(len(raw), len(body)) + raw)
    stream.write(body)
    stream.flush()


def ask_parent(requests: BinaryIO, answers: BinaryIO, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """See `Ask`; the answer comes as the next frame."""
    write_frame(answers, {"asked": rows.shape}, np.ascontiguousarray(rows).reshape(-1).data)
    frame = read_frame(requests)
    if frame is None:
        sys.exit(0)  # the parent is gone
    return np.frombuffer(frame[1], np.float32).reshape(frame[0]["shape"])


def answer(
    request: dict[str, Any], data: bytes, beat: Callable[[], None] = lambda: None, ask: Ask | None = None
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Decode, or decode and standardize; a refusal is an answer too. A video's request calls `beat` on its way, and
    `ask` where the parent has the network.
    """
    try:
        if "video" in request:
            from curation.video.requests import answer_video

            return answer_video(request, recipe_of(request["recipe"]) if request["recipe"] else None, beat, ask)
        image, info = decode_image(data, request["max_pixels"])
        if request["recipe"] is None:
            return {"info": info, "shape": [image.height, image.width, 3]}, image.tobytes()
        made = standardize(image, recipe_of(request["recipe"]))
        crop = {"resized": made.resized, "crop_ltrb": made.crop_ltrb}
        return {"info": info, "shape": made.rgb.shape, **crop}, made.rgb.tobytes()
    except ValueError as error:  # refused, or a recipe that does not fit the picture
        return {"refused": str(error)}, b""
    except MemoryError:
        return {"refused": NO_MEMORY}, b""


def recipe_of(header: dict[str, Any]) -> Recipe:
    """A recipe that came as JSON, where a tuple is a list."""
    return Recipe(**{**header, "box": tuple(header["box"]) if header["box"] else None})


def confine(memory_mb: int) -> None:
    """Bound the address space, leave no core files, ignore the terminal's Ctrl-C, die with the parent."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    confine(int(sys.argv[1]))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    write_frame(answers, {"ready": True}, b"")
    ask = partial(ask_parent, requests, answers)
    while (frame := read_frame(requests)) is not None:
        write_frame(answers, *answer(*frame, beat=lambda: write_frame(answers, {"alive": True}, b""), ask=ask))
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > int(sys.argv[1]) << 9:
            return  # half of what it may take is in use: a fresh process for the next record, should something leak


def request_of(recipe: Recipe | None, max_pixels: int) -> dict[str, Any]:
    """The header of a request."""
    return {"max_pixels": max_pixels, "recipe": asdict(recipe) if recipe else None}


if __name__ == "__main__":
    main()
