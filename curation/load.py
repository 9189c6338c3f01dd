"""A manifest file and `--set` overrides -> a checked Manifest; every error names file, line and key."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from curation import yamlfile
from curation.errors import CurationError, UsageError
from curation.manifest import Manifest
from curation.stores.location import name, parent, resolve

READ = 4 * yamlfile.LONGEST + 4
"""Bytes of a file from which on its text is too long, whatever its signs."""
SHOWN = 20
"""Mistakes of a manifest that are told one by one."""


@dataclass(frozen=True)
class Loaded:
    """A manifest with the place it came from."""

    manifest: Manifest
    path: str
    lines: dict[yamlfile.Path, int]

    @property
    def base(self) -> str:
        """The folder or URL that the manifest lies in; its relative paths start there."""
        return parent(self.path)

    def where(self, *keys: str | int) -> str:
        """`manifest.yaml:12: score.aesthetic`: where a key stands, or its nearest parent that has a line."""
        return f"{self.path}:{line_of(self.lines, keys)}: {'.'.join(map(str, keys))}"


def load(path: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read, override and validate a manifest. Raises UsageError with a sentence for each mistake."""
    data, lines = yamlfile.parse(_read(path), path)
    if not isinstance(data, dict):
        raise UsageError(
            f"{path}:1: a manifest is a mapping with name, source, score ...; this is a {type(data).__name__}"
        )
    for override in overrides:
        _override(data, override)
    try:
        return Loaded(_absolute(Manifest.model_validate(data), parent(path)), path, lines)
    except UnicodeEncodeError as error:
        what = ascii(error.object)[:80]
        raise UsageError(f"{path}: {what} holds half of a character (a lone surrogate)") from error
    except ValidationError as error:
        raise UsageError("\n".join(_bounded(list(_sentences(error, path, lines))))) from error


def _absolute(manifest: Manifest, base: str) -> Manifest:
    """Paths as seen from the manifest, so that the run's own copy of it means the same wherever it lies."""
    kinds = ("table", "folder", "webdataset", "urls")
    sources = tuple(
        section.model_copy(update={kind: resolve(base, path) for kind in kinds if (path := getattr(section, kind))})
        for section in manifest.source
    )
    duplicates = tuple(
        section.model_copy(update={"against": tuple(resolve(base, path) for path in section.against)})
        for section in manifest.select.duplicates
    )
    select = manifest.select.model_copy(update={"duplicates": duplicates})
    return manifest.model_copy(update={"source": sources, "select": select})


def _read(path: str) -> str:
    from curation.stores.storage import Store

    try:
        if "://" in path:
            with Store(parent(path)).open(name(path)) as file:
                return bytes(file.read(READ)).decode()
        with Path(path).open("rb") as local:  # never more: it may be a device that does not end
            return local.read(READ).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a manifest is UTF-8 text, and this is not ({error.reason})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot read the manifest: {error.strerror or error}") from error
    except CurationError as error:  # of an object store
        raise UsageError(f"{path}: cannot read the manifest: {error}") from error


def _override(data: dict[str, Any], text: str) -> None:
    """Apply `encode.size=128`, `score.similarity.keep=...` (a stage by its name) or `score.2.keep=...`."""
    key, equals, value = text.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise UsageError(
            f"--set {text}: say key=value, such as encode.size=128 or score.similarity.keep='similarity >= 0.3'"
        )
    place: Any = data
    for depth, step in enumerate(steps[:-1]):
        place = _step(place, step, f"--set {text}", create=depth > 0 or step not in data)
    if isinstance(place, list):
        place[_position(place, steps[-1], f"--set {text}")] = yamlfile.parse_value(value)
    elif isinstance(place, dict):
        place[steps[-1]] = yamlfile.parse_value(value)
    else:
        raise UsageError(f"--set {text}: '{steps[-1]}' leads into a plain value")


def _step(place: Any, step: str, where: str, create: bool) -> Any:
    if isinstance(place, list):
        position = _position(place, step, where)
        item = place[position]
        if isinstance(item, str):  # a bare stage name becomes a mapping that can hold keys
            item = place[position] = {item: {}}
        if isinstance(item, dict) and step in item:
            item[step] = item[step] if item[step] is not None else {}
            return item[step]
        return item
    if not isinstance(place, dict):
        raise UsageError(f"{where}: '{step}' leads into a plain value")
    if (place.get(step) is None and create) or place.get(step) is True:  # `media: true` is `media: {}`
        place[step] = {}
    return place[step]


def _position(items: list[Any], step: str, where: str) -> int:
    if step.isdigit() and int(step) < len(items):
        return int(step)
    names = [item if isinstance(item, str) else next(iter(item), "") for item in items]
    if step in names:
        return names.index(step)
    raise UsageError(
        f"{where}: there is no '{step}' in this list{suggest(step, names)}; it has {', '.join(map(str, names))}"
    )


def _bounded(sentences: list[str]) -> list[str]:
    more = len(sentences) - SHOWN
    return sentences[:SHOWN] + ([f"... and {more:,} more mistakes"] if more > 0 else [])


def _sentences(error: ValidationError, path: str, lines: dict[yamlfile.Path, int]) -> Iterable[str]:
    for item in error.errors():
        loc = item["loc"]
        key = ".".join(str(part)[:80] for part in loc)
        place = f"{path}:{line_of(lines, loc)}: {key}"
        if item["type"] == "extra_forbidden":
            known = known_keys(Manifest, loc[:-1])
            there = ", ".join(sorted(known))
            yield f"{place}: no such key '{str(loc[-1])[:80]}'{suggest(str(loc[-1]), known)}; there are: {there}"
        elif item["type"] == "missing":
            yield f"{place}: the key '{loc[-1]}' is missing"
        else:
            yield f"{place}: {item['msg'].removeprefix('Value error, ')} (given: {str(item.get('input'))[:80]})"


def line_of(lines: dict[yamlfile.Path, int], loc: Sequence[str | int]) -> int:
    """The line of the longest part of `loc` that the file has; a lone source may stand without a list."""
    tries = [tuple(loc), tuple(part for part in loc if not isinstance(part, int))]
    best = max(
        (attempt[:n] for attempt in tries for n in range(len(attempt) + 1) if attempt[:n] in lines), key=len, default=()
    )
    return lines.get(best, 1)


def known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that may stand at `loc`, for the did-you-mean."""
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        models = list(_models(model.model_fields[part].annotation))
        if models:
            model = models[0]
    return list(model.model_fields)


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'similarity'?` or nothing."""
    near = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
