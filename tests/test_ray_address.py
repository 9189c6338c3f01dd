"""Which cluster a run joins, and what a run of its own leaves behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from curation.engine.ray_engine import RayEngine
from curation.errors import CurationError


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_an_address_where_nothing_listens_is_a_sentence(form: str) -> None:
    address = form.format(free_port())
    with pytest.raises(CurationError, match=r"no Ray cluster can be reached at .*correct --address or RAY_ADDRESS"):
        RayEngine(address)


def test_a_port_that_no_machine_has_is_a_sentence() -> None:
    with pytest.raises(CurationError, match="no Ray cluster can be reached"):
        RayEngine("127.0.0.1:99999")


def test_a_local_run_leaves_no_token_in_the_home_folder(tmp_path: Path) -> None:
    """It would turn authentication on for the next `ray start` of the user."""
    program = "from curation.engine.ray_engine import RayEngine; e = RayEngine(None); print(e.describe()); e.close()"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=bare | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Ray," in done.stdout, done.stderr
    assert not (tmp_path / ".ray").exists()
