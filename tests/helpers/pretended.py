"""A server of networks on a pretended GPU, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from curation.devices import PRETEND
from curation.inference.client import service
from curation.inference.server import Server


@contextmanager
def pretended_server(monkeypatch: pytest.MonkeyPatch, networks: ModuleType, at_once: int = 4) -> Iterator[Server]:
    """Inside, models ask it; the networks of the module run in batches of `at_once`."""
    monkeypatch.setenv(PRETEND, "1")
    monkeypatch.setattr(networks, "AT_ONCE", at_once)
    made = Server()
    with service(made):
        yield made
    made.close()
