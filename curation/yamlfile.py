"""Safe YAML that remembers the line of every key, so that an error can point at it."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from curation.errors import UsageError

Path = tuple[str | int, ...]


class Loader(yaml.SafeLoader):
    """Safe YAML in which `on`, `off`, `yes` and `no` are words, as in YAML 1.2: `duplicates: {on: phash}`."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))


def parse(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """Plain data, and the line (from 1) of each key and list item by its path. Raises UsageError."""
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{name}{_at(error)}: this is not YAML: {_problem(error)}") from error
    if root is None:
        raise UsageError(f"{name}: the file is empty")
    lines: dict[Path, int] = {}
    _walk(root, (), lines, name)
    try:
        return yaml.load(text, Loader=Loader), lines  # noqa: S506 (a SafeLoader subclass)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{name}: {_problem(error)}") from error


def parse_value(text: str) -> Any:
    """The value of a `--set key=value`: YAML, or the text itself where it is none (`a >= 1: x`)."""
    try:
        value = yaml.load(text, Loader=Loader)  # noqa: S506 (a SafeLoader subclass)
    except yaml.YAMLError:
        return text
    return text if isinstance(value, Mapping) and not text.lstrip().startswith("{") else value


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
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
    return str(getattr(error, "problem", None) or error)
