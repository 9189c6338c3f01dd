"""Runs one network in batches of fixed sizes, so that a row's answer depends neither on its neighbours nor on load."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from curation.errors import CurationError, Unavailable
from curation.inference.network import Array, DeviceFault, Network, OutOfMemory, Row, Signature
from curation.stage import sentence

Answer = tuple[Array, ...]
MOST_EMPTY = 0.25
"""The share of a batch that may hold no row, where a smaller batch could be taken."""
SHARES = (16, 8, 4, 2)
"""Batches of the largest size over these are tried beside it."""


@dataclass
class Sizes:
    """The batch sizes that rows of one signature may run at.

    allowed   ascending; a batch takes the smallest that holds its rows. One size alone, unless the device gives a row
              the same bits at all of them
    spread    the largest difference that another place or other neighbours made to an answer when it was opened;
              0.0: the same bits
    """

    allowed: tuple[int, ...]
    spread: float = 0.0

    @property
    def largest(self) -> int:
        return self.allowed[-1]

    def fitting(self, rows: int) -> int:
        """The smallest allowed size that holds so many rows, or the largest."""
        return next((size for size in self.allowed if size >= rows), self.largest)

    def taken(self, waiting: int) -> int:
        """How many of so many waiting rows the next batch takes: what fills a size, so that the device computes few
        rows that nobody asked for; all of them where a quarter of the next size at most stays empty."""
        size = self.fitting(waiting)
        if waiting >= size * (1 - MOST_EMPTY):
            return min(waiting, size)
        return max((each for each in self.allowed if each <= waiting), default=waiting)

    def halved(self) -> "Sizes":
        """After the device ran out of memory: half of the largest, and what is allowed below."""
        half = max(1, self.largest // 2)
        return Sizes((*(size for size in self.allowed if size < half), half), self.spread)


@dataclass
class Meter:
    """What a network did: rows answered, batches, places of batches that no row filled, seconds of computing."""

    rows: int = 0
    batches: int = 0
    padding: int = 0
    seconds: float = 0.0
    halvings: int = 0

    def add(self, rows: int, size: int, seconds: float) -> None:
        self.rows += rows
        self.batches += 1
        self.padding += size - rows
        self.seconds += seconds


@dataclass
class Runner:
    """A network and the sizes it runs at. Its batches run one after another, from whatever thread they are sent."""

    network: Network
    title: str
    meter: Meter = field(default_factory=Meter)
    sizes: dict[Signature, Sizes] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def sizes_of(self, signature: Signature) -> Sizes:
        """The batch sizes for such rows; the first time, after trying which sizes give the same bits."""
        if known := self.sizes.get(signature):
            return known  # without waiting for the batch that has its turn
        with self._turn:
            return self._sizes_of(signature)

    def _sizes_of(self, signature: Signature) -> Sizes:
        if signature not in self.sizes:
            largest = max(1, self.network.batch_rows(signature))
            self.sizes[signature] = self._tried(signature, largest)
        return self.sizes[signature]

    def _tried(self, signature: Signature, largest: int) -> Sizes:
        """Sizes from the largest on which the device has room for; see `proven`."""
        while largest > 1 and not self.network.exact:
            try:
                return proven(self.network, signature, largest)
            except OutOfMemory:
                self.network.release()
                self.meter.halvings += 1
                largest //= 2
        return Sizes((largest,))

    def run(self, call: str, rows: Sequence[Row]) -> list[Answer]:
        """An answer per row, in order; rows may differ in their shapes. Raises Unavailable, DeviceFault."""
        answers: dict[int, Answer] = {}
        groups: dict[Signature, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(Signature.of(call, row), []).append(i)
        for signature, places in groups.items():
            size = self.sizes_of(signature).largest
            for start in range(0, len(places), size):
                part = places[start : start + size]
                answers.update(zip(part, self.batch(signature, [rows[i] for i in part]), strict=True))
        return [answers[i] for i in range(len(rows))]

    def batch(self, signature: Signature, rows: Sequence[Row]) -> list[Answer]:
        """Rows of one signature, at most as many as its largest size, in one batch; in more where memory runs out."""
        answers: list[Answer] = []
        while len(answers) < len(rows):
            sizes = self.sizes_of(signature)
            part = rows[len(answers) : len(answers) + sizes.largest]
            try:
                answers += self._once(signature, part, sizes.fitting(len(part)))
            except OutOfMemory as error:
                self._shrink(signature, sizes, error)
        return answers

    def _once(self, signature: Signature, rows: Sequence[Row], size: int) -> list[Answer]:
        """Copied to the device before its turn, and fetched after it: both overlap with another batch's computing."""
        try:
            sent = self.network.send(stacked(signature, rows, size))
            with self._turn:
                launched = self.network.launch(signature.call, sent)
            computed = self.network.fetch(launched)
            with self._turn:
                self.meter.add(len(rows), size, computed.seconds)
        except (OutOfMemory, DeviceFault, CurationError):
            raise
        except Exception as error:  # rows of a checked shape and type: what fails is the model or the machine
            raise Unavailable(f"the model {self.title} failed on a batch of {size}: {sentence(error)}") from error
        return [tuple(np.array(output[i]) for output in computed.arrays) for i in range(len(rows))]

    def _shrink(self, signature: Signature, sizes: Sizes, error: OutOfMemory) -> None:
        """Halve the largest size after `error`, unless another thread did."""
        if sizes.largest == 1:
            raise Unavailable(
                f"the model {self.title} has no room for one row of {signature.shapes} on its device ({error}); "
                "use a GPU with more memory, smaller pictures, or fewer models on one GPU"
            )
        with self._turn:
            self.network.release()
            if self.sizes[signature] is sizes:
                self.meter.halvings += 1
                self.sizes[signature] = sizes.halved()


def stacked(signature: Signature, rows: Sequence[Row], size: int) -> list[Array]:
    """A batch of `size` from at most as many rows; the places left over hold zeros."""
    batch = [np.zeros((size, *shape), dtype) for shape, dtype in zip(signature.shapes, signature.dtypes, strict=True)]
    for i, row in enumerate(rows):
        for array, part in zip(batch, row, strict=True):
            array[i] = part
    return batch


def proven(network: Network, signature: Signature, largest: int) -> Sizes:
    """The sizes at which a row's answer has the same bits, tried on random rows.

    A row is answered first and last in two batches of the largest size among different neighbours, then in batches of
    half of it and less. Smaller sizes with the same bits are allowed, for batches that are not full.
    """
    random = np.random.default_rng(0)
    probe = noise(signature, random)

    def answer(size: int, place: int) -> list[Array]:
        rows = [noise(signature, random) for _ in range(size)]
        rows[place] = probe
        return [output[place] for output in network.compute(signature.call, stacked(signature, rows, size))]

    first, last = answer(largest, 0), answer(largest, largest - 1)
    spread = max(difference(a, b) for a, b in zip(first, last, strict=True))
    same = [
        size
        for size in (smaller(largest) if spread == 0.0 else ())
        if all(difference(a, b) == 0.0 for a, b in zip(first, answer(size, size - 1), strict=True))
    ]
    return Sizes((*same, largest), spread)


def smaller(largest: int) -> list[int]:
    """Sizes below the largest one, ascending."""
    return sorted({largest // share for share in SHARES if largest // share > 1})


def noise(signature: Signature, random: np.random.Generator) -> Row:
    """A random row: the whole range of bytes, ones and zeros for other integers, a normal distribution for floats."""
    row = []
    for shape, name in zip(signature.shapes, signature.dtypes, strict=True):
        dtype = np.dtype(name)
        if dtype == np.uint8:
            row.append(random.integers(0, 256, shape, np.uint8))
        elif dtype.kind in "iub":
            row.append(random.integers(0, 2, shape).astype(dtype))
        else:
            row.append(random.standard_normal(shape).astype(dtype))
    return tuple(row)


def difference(a: Array, b: Array) -> float:
    """The largest absolute difference; 0.0 for the same bits, infinite where only one of two values is finite."""
    if a.tobytes() == b.tobytes():
        return 0.0
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)) or float(np.finfo(np.float32).tiny)
