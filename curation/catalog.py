"""Finds stages: by key among stages/, or as `package.module:Class` for a user's own."""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterable

from curation.errors import UsageError
from curation.load import suggest
from curation.stage import Stage

PACKAGE = "stages"


def names() -> list[str]:
    """Keys of the stages that ship, without importing them."""
    spec = importlib.util.find_spec(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []))


def find(key: str, where: str = "") -> type[Stage]:
    """The stage class that a manifest names. Raises UsageError saying where, and what was meant."""
    prefix = f"{where}: " if where else ""
    if ":" in key:
        return _own(key, prefix)
    if key not in names():
        raise UsageError(f"{prefix}there is no stage '{key}'{suggest(key, names())}; see `curate stages`")
    module = importlib.import_module(f"{PACKAGE}.{key}")
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, Stage) and cls.__module__ == module.__name__ and getattr(cls, "name", None) == key:
            return cls
    raise UsageError(f"{prefix}{PACKAGE}/{key}.py has no Stage whose name is '{key}'")


def _own(key: str, prefix: str) -> type[Stage]:
    module_name, _, class_name = key.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise UsageError(f"{prefix}cannot import '{module_name}': {error}") from error
    except AttributeError as error:
        raise UsageError(f"{prefix}the module '{module_name}' has no '{class_name}'") from error
    if not (inspect.isclass(cls) and issubclass(cls, Stage)):
        raise UsageError(f"{prefix}'{key}' is not a curation.stage.Stage")
    return cls


def every() -> Iterable[type[Stage]]:
    """All stages that ship, imported."""
    return [find(name) for name in names()]
