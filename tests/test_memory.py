"""The peak of a phase is its own, not an earlier one's."""

from typing import Any

import numpy as np

from curation.memory import peak_mb, peak_noted


def test_each_phase_has_its_own_peak() -> None:
    phases: dict[str, dict[str, Any]] = {"large": {}, "small": {}}
    with peak_noted(phases, "large"):
        np.ones(40_000_000)
    with peak_noted(phases, "small"):
        np.ones(1000)
    assert phases["small"]["peak_memory_mb"] < phases["large"]["peak_memory_mb"] - 200
    assert phases["small"]["peak_memory_mb"] == round(peak_mb())


def test_a_phase_of_several_rounds_has_the_highest() -> None:
    phases: dict[str, dict[str, Any]] = {"select": {"peak_memory_mb": 10**9}}
    with peak_noted(phases, "select"):
        phases["select"] = {"seconds": 1.0}
    assert phases["select"] == {"seconds": 1.0, "peak_memory_mb": 10**9}


def test_a_phase_inside_another_hides_none_of_its_peak() -> None:
    phases: dict[str, dict[str, Any]] = {"encode": {}, "select": {}}
    with peak_noted(phases, "encode"):
        np.ones(40_000_000)
        with peak_noted(phases, "select"):
            np.ones(1000)
    assert phases["select"]["peak_memory_mb"] < phases["encode"]["peak_memory_mb"] - 200


def test_a_phase_that_never_began_is_not_made_up() -> None:
    phases: dict[str, dict[str, Any]] = {}
    with peak_noted(phases, "encode"):
        pass
    assert phases == {}
