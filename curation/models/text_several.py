"""Several text encoders at once: the first gives a sample's main states, the others parts of their own."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models.registry import ModelInfo, describe, open_model
from curation.models.text_spec import TextStates, described_main, described_parts, encoded

BACKEND = "several"


def several_spec(encoders: Sequence[tuple[str, str]]) -> str:
    """(name, spec) of each encoder as one spec: `several:[["clip_l","transformers:..."], ...]`."""
    return f"{BACKEND}:{json.dumps(list(encoders), separators=(',', ':'))}"


class SeveralText:
    """The role text, by encoders that have names. The argument is a JSON list of [name, spec].

    Parts: the first encoder's states are the main ones; those of each other lie under its name, and pooled outputs
    under NAME_pooled.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        """All of them as one: the first problem, devices of any, memory in all."""
        infos = [(name, spec, describe("text", spec)) for name, spec in json.loads(argument)]
        problem = next((f"{spec}: {info.problem}" for _, spec, info in infos if info.problem), None)
        identity = " + ".join(f"{name}={info.id}" for name, _, info in infos)
        parts = json.dumps([(name, info.id, info.sha256) for name, _, info in infos])
        devices = tuple(kind for kind in ("cpu", "cuda") if any(kind in info.devices for _, _, info in infos))
        digest = "" if problem else hashlib.sha256(parts.encode()).hexdigest()
        return ModelInfo(identity, digest, problem, None, devices, sum(info.gpu_mb for _, _, info in infos))

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.encoders: dict[str, Any] = {}
        self.specs: dict[str, str] = dict(json.loads(argument))
        for name, spec in self.specs.items():
            own = device if device in describe("text", spec).devices else "cpu"
            self.encoders[name] = open_model("text", spec, own)
        self.first = next(iter(self.encoders))
        main = self.encoders[self.first]
        self.dimensions, self.max_tokens = main.dimensions, main.max_tokens

    def about(self) -> dict[str, Any]:
        """Of the first encoder, what says which of the parts the main one is."""
        return self._facts(self.first) | {"name": self.first}

    def parts(self) -> dict[str, dict[str, Any]]:
        """Facts of each part beside the main one, by name."""
        facts: dict[str, dict[str, Any]] = {}
        for name, model in self.encoders.items():
            if name != self.first:
                facts[name] = self._facts(name)
            facts |= {f"{name}_{part}": known for part, known in described_parts(model).items()}
        return facts

    def _facts(self, name: str) -> dict[str, Any]:
        model, info = self.encoders[name], describe("text", self.specs[name])
        sizes = {"dimensions": model.dimensions, "max_tokens": model.max_tokens}
        return {"id": info.id, "sha256": info.sha256, "spec": self.specs[name], **sizes, **described_main(model)}

    def tokens(self, captions: Sequence[str]) -> list[NDArray[np.float16]]:
        """Of the first encoder alone, float16 [n, D] each."""
        states: list[NDArray[np.float16]] = self.encoders[self.first].tokens(captions)
        return states

    def encode(self, captions: Sequence[str]) -> TextStates:
        made = {name: encoded(model, list(captions)) for name, model in self.encoders.items()}
        more = {name: states.main for name, states in made.items() if name != self.first}
        for name, states in made.items():
            more |= {f"{name}_{part}": values for part, values in states.more.items()}
        return TextStates(made[self.first].main, more)
