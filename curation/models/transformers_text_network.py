"""The network of a text encoder of transformers: hidden states of captions in batches.

CLIP's text model, the encoders of T5 and UMT5, and the language models of Gemma, Qwen and Llama, without the head that
predicts tokens and without the vision tower.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.inference.network import Precision, Signature
from curation.inference.torch_network import TorchNetwork
from curation.models.patch_torchvision import patch_torchvision
from curation.models.text_spec import TextSettings, parsed
from curation.models.transformers_weights import pretrained
from curation.stage import sentence

CONFIG = "config.json"
CLIP = ("clip", "clip_text_model")
ENCODERS = {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
DECODERS = ("gemma2", "gemma3", "gemma3_text", "llama", "qwen2", "qwen2_5_vl", "qwen3", "qwen3_vl")
AT_ONCE = 16
CALL = "encode"


class TextNetwork(TorchNetwork):
    """Token ids and their mask, int64 [B, L] each -> states [B, L, D], then CLIP's pooled output [B, P] where asked.

    In fp32 answers are float32, in bf16 they are float16, as they are stored. On a CPU one caption is computed at a
    time, on a GPU always 16: a caption's values depend neither on its neighbours nor on how many there are.
    """

    exact = True  # captions attend to no other's tokens, and batches are all of one size

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        from curation.models.transformers_text import fetched

        super().__init__(argument, device, precision)
        place, self.settings = parsed(argument)
        self.at_once = 1 if device == "cpu" else AT_ONCE
        self.dtype = self.half if precision == "bf16" else self.dtype
        model = load_model(place, fetched(place), self.settings, self.dtype)
        self.module = model.to(self.device)
        config = model.config.get_text_config()
        self.facts = {"dimensions": config.hidden_size}
        if self.settings.pooled:
            projected = type(model).__name__.endswith("WithProjection")
            self.facts |= {"pooled_dimensions": config.projection_dim if projected else config.hidden_size}

    def batch_rows(self, signature: Signature) -> int:
        return self.at_once

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        import torch

        ids, mask = tensors
        seen = {} if self.settings.padded else {"attention_mask": _attended(mask)}
        wanted, layer = self.settings.pooled, self.settings.layer
        output = self.module(input_ids=ids, output_hidden_states=layer is not None, **seen)
        answers = [] if wanted == "only" else [_states(output, layer)]
        if wanted:
            answers.append(output.text_embeds if "text_embeds" in output else output.pooler_output)
        return [answer.to(torch.float16) for answer in answers] if self.precision == "bf16" else answers


def _states(output: Any, layer: int | None) -> Any:
    return output.last_hidden_state if layer is None else output.hidden_states[layer]


def _attended(mask: Any) -> Any:
    """Places of a batch that no caption fills attend to their first token: to attend to none would give NaN."""
    mask = mask.clone()
    mask[:, 0] = 1
    return mask


def problem_of(config: Mapping[str, Any], settings: TextSettings) -> str | None:
    """Why a model with this config.json cannot be used with these settings, as a sentence; None when it can."""
    kind = config.get("model_type")
    if kind not in (*CLIP, *ENCODERS, *DECODERS):
        known = ", ".join((*CLIP, *ENCODERS, *DECODERS))
        return f"its {CONFIG} says model_type {kind!r}, and text states are taken of {known}"
    text = config.get("text_config") or config
    layers = text.get("num_hidden_layers", text.get("num_layers"))
    layer = settings.layer
    if layer is not None and isinstance(layers, int) and not -layers - 1 <= layer <= layers:
        return f"`layer: {layer}` is none of its {layers} layers; say {-layers - 1} to {layers}"
    if settings.pooled and kind not in CLIP:
        return f"`pooled` is an output of CLIP's text models, which {kind} is not"
    longest = text.get("max_position_embeddings", 77)
    if kind in CLIP and settings.max_tokens and settings.max_tokens > longest:
        return f"it takes {longest} tokens at most, `max_tokens` says {settings.max_tokens}"
    return None


def load_model(place: str, folder: Path, settings: TextSettings, dtype: Any) -> Any:
    """The text model on the CPU. Raises CurationError.

    Of CLIP with `text_projection` where the folder has one: its pooled output is `text_embeds`, otherwise the final
    norm's state of the end token.
    """
    patch_torchvision()
    import transformers

    with loading(place):
        config = json.loads((folder / CONFIG).read_text())
        if problem := problem_of(config, settings):
            raise CurationError(problem)
        kind = config["model_type"]
        if kind in CLIP:
            plain = config.get("architectures") == ["CLIPTextModel"]
            name = "CLIPTextModel" if plain else "CLIPTextModelWithProjection"
        else:
            name = ENCODERS.get(kind, "AutoModel")
        model, wrong = pretrained(getattr(transformers, name), folder, dtype)
        if wrong:
            raise CurationError(f"{len(wrong)} weights do not fit its {CONFIG}, such as {wrong[0]}")
    model = getattr(model, "language_model", model)
    return model.eval().requires_grad_(False)


@contextmanager
def loading(place: str) -> Iterator[None]:
    """Errors of transformers, the hub and safetensors as a CurationError that names the encoder."""
    try:
        yield
    except Exception as error:
        why = str(error) if isinstance(error, CurationError) else sentence(error)
        raise CurationError(f"the text encoder 'transformers:{place}' cannot be loaded: {why}") from error
