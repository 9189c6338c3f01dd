"""How many threads a worker computes on: one, since there are as many workers as cores."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

ONE_EACH = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
"""The environment in which a process that is started computes on one thread."""


@contextmanager
def one_core() -> Iterator[None]:
    """BLAS and OpenCV on one thread inside, as they were outside.

    Of themselves they wake every core of the machine for a product of small matrices, in every worker at once.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    missing = {name: value for name, value in ONE_EACH.items() if name not in os.environ}
    os.environ.update(missing)  # for what is loaded, or started, later
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)
        for name in missing:
            os.environ.pop(name, None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside, as it was outside: sums are cut the same way on every machine and by every worker."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
