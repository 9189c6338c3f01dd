"""Which files belong together, by their names: each picture or video, and what lies beside it.

`cat.txt` and `cat.jpg.txt` lie beside `cat.jpg`. Names are compared exactly first; where no picture has just this
name, without regard to case and Unicode form, so `CAT.TXT` will do.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from curation.sources.kinds import MEDIA, extension_of, stem_of

PARTS = frozenset(
    ("seg", "segmentation", "mask", "masks", "depth", "normal", "normals", "edge", "edges", "canny", "pose", "thumb")
)
"""Words that name a picture about another one: `0001.seg.png` beside `0001.jpg` is no record of its own."""


@dataclass(frozen=True)
class Paired:
    """Places in the list of names: a medium, and (label, place) of what lies beside it, best match first.

    A label is what the name has behind the medium's own, in lower case: `txt`, `en.txt`, `seg.png`.
    """

    medium: int
    beside: tuple[tuple[str, int], ...]


def fold(name: str) -> str:
    """A name without regard to case and Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def pair(names: Sequence[str], dotted: bool) -> tuple[list[Paired], list[int]]:
    """The media in order, each with what lies beside it, and the places of what lies beside none.

    names   the files of one folder, each name once
    dotted  WebDataset's names: what belongs to `0001` may be called `0001.en.txt` or `0001.seg.png`, and `0001.txt`
            also lies beside `0001.left.jpg`, where that has no `txt` of its own
    """
    found = [i for i, name in enumerate(names) if extension_of(name) in MEDIA]
    stems = _Index((stem_of(names[i]), i) for i in found)
    media = [i for i in found if not (dotted and _is_part(names[i], stems))]
    lookup = _Lookup(names, media, dotted)
    beside: dict[int, list[tuple[int, str, str, int]]] = {i: [] for i in media}
    alone: list[int] = []
    for i, name in enumerate(names):
        if i in beside:
            continue
        rank, label, owners = lookup.owners(name)
        for owner in owners:
            beside[owner].append((rank, label, name, i))
        if not owners:
            alone.append(i)
    return [Paired(i, tuple(_nearest(beside[i]))) for i in media], alone


def _nearest(beside: list[tuple[int, str, str, int]]) -> Iterator[tuple[str, int]]:
    """The best match first; of what is shared by its name's beginning, only what the medium has not itself."""
    own = {label for rank, label, _, _ in beside if rank < _Lookup.SHARED}
    for rank, label, _, i in sorted(beside):
        if rank < _Lookup.SHARED or label not in own:
            yield label, i


def _is_part(name: str, stems: "_Index") -> bool:
    """Whether a picture's name says that it is about another one which is there too."""
    whole, _, word = stem_of(name).rpartition(".")
    return word.lower() in PARTS and bool(stems.find(whole))


class _Index:
    """Places by name, exactly and folded."""

    def __init__(self, named: Iterable[tuple[str, int]]) -> None:
        self.exact: dict[str, list[int]] = defaultdict(list)
        self.folded: dict[str, list[int]] = defaultdict(list)
        for name, i in named:
            self.exact[name].append(i)
            self.folded[fold(name)].append(i)

    def find(self, name: str) -> list[int]:
        return self.exact.get(name) or self.folded.get(fold(name)) or []


class _Lookup:
    """Finds the media that a file lies beside."""

    SHARED = 3

    def __init__(self, names: Sequence[str], media: list[int], dotted: bool) -> None:
        self.dotted = dotted
        self.names = _Index((names[i], i) for i in media)
        self.stems = _Index((stem_of(names[i]), i) for i in media)
        self.heads = _Index((head, i) for i in media if dotted for head in _heads(stem_of(names[i])))

    def owners(self, name: str) -> tuple[int, str, list[int]]:
        """(rank, label, media): the lower the rank, the closer the names."""
        stem, label = stem_of(name), extension_of(name)
        if owners := self.names.find(stem):
            return 0, label, owners
        if owners := self.stems.find(stem):
            return 1, label, owners
        if self.dotted:
            for head in _heads(stem):
                if owners := self.stems.find(head):
                    return 2, name[len(head) + 1 :].lower(), owners
            return self.SHARED, label, self.heads.find(stem)
        return 0, label, []


def _heads(stem: str) -> Iterator[str]:
    """`d/a.b` and `d/a` of `d/a.b.c`, the longest first."""
    folder, slash, base = stem.rpartition("/")
    while "." in base:
        base = base.rpartition(".")[0]
        if base:
            yield folder + slash + base
