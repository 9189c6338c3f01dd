"""Safe YAML that remembers the line of every key, so that an error can point at it.

A text is read once and within bounds: its length, its depth, and how much its aliases repeat. A few lines of aliases of
aliases would otherwise stand for more data than any memory holds.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from curation.errors import UsageError

Path = tuple[str | int, ...]

LONGEST = 250_000
"""Characters of a text; a manifest with every default written out has some 5,000."""
DEEPEST = 50
"""Lists and mappings within each other."""
MOST = 20_000
"""Values, those that an alias repeats counted each time."""
LARGEST = 2**63 - 1
"""Of whole numbers: what 64 bits hold."""


class Loader(yaml.SafeLoader):
    """Safe YAML in which `on`, `off`, `yes` and `no` are words, as in YAML 1.2: `duplicates: {on: phash}`.

    Raises yaml.YAMLError with a place for whatever is wrong, bounds and values included.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._measured: dict[int, tuple[int, int]] = {}
        """Of each node that is read: how many values it holds, and how deep they go."""
        self._deepest = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        is_alias = self.check_event(yaml.AliasEvent)
        before, outer, self._deepest = self._count, self._deepest, self._depth
        self._depth += 1
        node: yaml.Node | None = None
        if not is_alias:
            self._bounded(1, self._depth, mark)
        node = super().compose_node(parent, index)
        if is_alias and id(node) not in self._measured:
            raise yaml.composer.ComposerError(None, None, "an alias stands inside of what it repeats", mark)
        if is_alias:
            size, height = self._measured[id(node)]
            self._bounded(size, self._depth - 1 + height, mark)
        else:
            self._measured[id(node)] = (self._count - before, self._deepest - self._depth + 1)
        self._depth -= 1
        self._deepest = max(outer, self._deepest)
        return node

    def _bounded(self, values: int, depth: int, mark: yaml.Mark) -> None:
        self._count += values
        self._deepest = max(self._deepest, depth)
        if depth > DEEPEST:
            problem = f"lists and mappings lie more than {DEEPEST} deep in each other"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        if self._count > MOST:
            problem = f"it holds more than {MOST:,} values, counting what aliases (*name) repeat"
            raise yaml.composer.ComposerError(None, None, problem, mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A node's value; one that its type cannot hold is an error with a place."""
        shown = str(node.value)[:60]
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:
            problem = f"'{shown}' cannot be read as {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        if isinstance(value, int) and abs(value) > LARGEST:
            problem = f"'{shown}' is too large a number"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))


def parse(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """Plain data, and the line (from 1) of each key and list item by its path. Raises UsageError."""
    if len(text) > LONGEST:
        raise UsageError(f"{name}: it has more than {LONGEST:,} characters, which no manifest needs")
    lines: dict[Path, int] = {}
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise UsageError(f"{name}: the file is empty")
        _walk(root, (), lines, name)
        return loader.construct_document(root), lines
    except yaml.constructor.ConstructorError as error:
        raise UsageError(f"{name}{_at(error)}: {_problem(error)}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name}{_at(error)}: this is not YAML: {_problem(error)}") from error


def parse_value(text: str) -> Any:
    """The value of a `--set key=value`: YAML, or the text itself where it is none (`a >= 1: x`)."""
    try:
        root = Loader(text).get_single_node() if len(text) <= LONGEST else None
        value = root and Loader(text).construct_document(root)
    except yaml.YAMLError:
        return text
    return text if isinstance(value, Mapping) and not text.lstrip().startswith("{") else value


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(f"{name}:{line}: a list or mapping stands where a key should, which is a word")
            if key.value in seen:
                raise UsageError(f"{name}:{line}: the key '{key.value}' stands twice (first in line {seen[key.value]})")
            seen[key.value] = line
            lines[(*path, key.value)] = line
            _walk(value, (*path, key.value), lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*path, i), lines, name)


def _at(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark else ""


def _problem(error: Exception) -> str:
    return str(getattr(error, "problem", None) or " ".join(str(error).split()))
