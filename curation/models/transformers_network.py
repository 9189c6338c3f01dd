"""The network of a transformers captioner: answers of scenes in batches, their prompts padded on the left.

A row is what a model's processor made of one scene, each tensor as an array [n, ...]; n counts scenes (1), or the
scene's pictures, tiles or patches. Along it the rows of a batch are put behind each other, as a processor does with
several scenes. The rows of a batch have equal shapes: pictures of other sizes wait in another queue.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.inference.network import Precision, Row, Signature
from curation.inference.torch_network import TorchNetwork

STEP = 64
"""For a GPU prompts are padded to a multiple of so many tokens, so that few lengths occur."""
AT_ONCE = 16
CACHE_MB = 6000
"""Beside the weights, for the keys and values of 16 scenes of 1,500 tokens with a 4B model, and for its pictures."""
TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Inputs with a value for each token of the prompt."""
NONE = -1
"""Stands behind the end of an answer."""


def call_of(max_tokens: int, chats: bool, names: Sequence[str]) -> str:
    """The call that says how long an answer may be, whether the prompt is repeated before it, and what a row holds."""
    return f"generate:{max_tokens}:{'chat' if chats else 'plain'}:{','.join(names)}"


def row_of(inputs: Any, padded: bool) -> tuple[list[str], Row]:
    """Names and arrays of what a processor made of one scene.

    padded  for a GPU: prompts get a multiple of `STEP` tokens, the first ones masked, and pixels become fp16, which has
            more digits than the bf16 that is computed in
    """
    names = sorted(inputs.keys())
    arrays = [np.asarray(inputs[name]) for name in names]
    if padded:
        arrays = [_padded(array) if name in TOKENS else array for name, array in zip(names, arrays, strict=True)]
        arrays = [array.astype(np.float16) if array.dtype.kind == "f" else array for array in arrays]
    return names, tuple(arrays)


def _padded(tokens: Any) -> Any:
    """Zeros before them: no attention, and whatever the token 0 may be, it is masked."""
    missing = -tokens.shape[1] % STEP
    return np.pad(tokens, ((0, 0), (missing, 0)))


class CaptionNetwork(TorchNetwork):
    """One call, see `call_of` -> the tokens of the answer with its end, int64 [W], `NONE` behind it.

    Greedy: in fp32 on a CPU, where one scene is answered at a time, in bf16 on a GPU. W is the longest answer, and for
    models that repeat their prompt (BLIP) its length more.
    """

    exact = True  # a scene's tokens attend to no other scene's, and its batches are all of one size
    patience_s = 0.25  # a batch computes for seconds

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        from curation.models.transformers_captioner import load_model

        super().__init__(argument, device, precision)
        self.at_once = 1 if device == "cpu" else AT_ONCE
        self.dtype = self.half if precision == "bf16" else self.dtype
        self.module = load_model(argument, self.dtype).to(self.device)
        self.ends = _ends(self.module)
        self.facts = {"ends": self.ends}

    def batch_rows(self, signature: Signature) -> int:
        return self.at_once

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        import torch

        _, longest, kind, names = call.split(":")
        rows = dict(zip(names.split(","), _only_scenes(names.split(","), tensors), strict=True))
        inputs = {name: tensor.flatten(0, 1) for name, tensor in rows.items()}
        inputs = {n: t.to(self.dtype) if t.is_floating_point() else t for n, t in inputs.items()}
        tokens = self.module.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=int(longest))
        prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        fresh = tokens[:, prompt:] if kind == "chat" else tokens
        width = int(longest) + (0 if kind == "chat" else prompt + 2)
        ended = torch.isin(fresh, torch.tensor(self.ends, device=fresh.device)).cumsum(1)
        after = torch.nn.functional.pad(ended, (1, 0))[:, :-1] > 0
        answers = torch.full((len(fresh), width), NONE, dtype=torch.int64, device=fresh.device)
        answers[:, : fresh.shape[1]] = fresh.masked_fill(after, NONE)[:, :width]
        return [answers]


def _only_scenes(names: Sequence[str], tensors: Sequence[Any]) -> Sequence[Any]:
    """Places of the batch that no scene fills hold zeros, which no model takes: there the first scene is repeated."""
    import torch

    if "attention_mask" not in names:
        return tensors
    filled = tensors[names.index("attention_mask")].flatten(1).any(1)
    places = torch.where(filled, torch.arange(len(filled), device=filled.device), 0)  # rows fill a batch from its start
    return [tensor[places] for tensor in tensors]


def _ends(model: Any) -> list[int]:
    """The tokens that end an answer; BLIP's is the one that separates sentences."""
    ends = model.generation_config.eos_token_id
    found = set(ends) if isinstance(ends, list) else {ends}
    found.add(getattr(model.config.get_text_config(), "sep_token_id", None))
    return sorted(found - {None})
