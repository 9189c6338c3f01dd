"""Real text encoders of transformers at tiny random sizes, with tokenizers trained here, saved as real ones are."""

from functools import cache
from pathlib import Path
from typing import Any

from curation.models.patch_torchvision import patch_torchvision
from curation.models.text_presets import HUNYUAN_VIDEO, QWEN_IMAGE

CAPTIONS = [
    "a red cat sits under a tree",
    "",
    "two boats",
    "the blue house beside the sea, painted in oil, with a green hill and a dog that runs over the grass",
    "sky " * 200,
]
SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>"]
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
DECODER = SIZE | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
ROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
VISION = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}


@cache
def tokenizer(begins: bool = False, ends: bool = False, longest: int = 1024) -> Any:
    """A byte-level BPE trained on the captions, with the special tokens that a family puts around a prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(
        [*CAPTIONS, *[HUNYUAN_VIDEO, QWEN_IMAGE] * 3],
        trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, initial_alphabet=letters),
    )
    single = " ".join([*(["<bos>"] if begins else []), "$A", *(["<eos>"] if ends else [])])
    fast.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<bos>", 2), ("<eos>", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=longest,
    )


def tokens_of(kind: str) -> Any:
    if kind.startswith("clip"):
        return tokenizer(True, True, 77)
    if kind in ("t5", "t5_wide", "umt5"):
        return tokenizer(ends=True)
    return tokenizer(begins=kind.startswith(("gemma", "llama")))


def model_of(kind: str) -> Any:
    """The model as the library makes it, with weights spread widely enough that layers and tokens differ."""
    patch_torchvision()
    import torch
    import transformers as t

    ids = {"vocab_size": len(tokens_of(kind)), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    language = DECODER | ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(kind))
        made = {
            "clip": lambda: t.CLIPTextModel(t.CLIPTextConfig(**SIZE, **ids)),
            "clip_projected": lambda: t.CLIPTextModelWithProjection(
                t.CLIPTextConfig(**SIZE, **ids, projection_dim=24, hidden_act="gelu")
            ),
            "t5": lambda: t.T5EncoderModel(t.T5Config(**T5, **ids)),
            "t5_wide": lambda: t.T5EncoderModel(t.T5Config(**T5 | {"d_model": 80}, **ids)),
            "umt5": lambda: t.UMT5EncoderModel(t.UMT5Config(**T5, **ids)),
            "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**language)),
            "gemma3_text": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**language)),
            "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**language)),
            "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**language)),
            "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**language)),
            "qwen2_5_vl": lambda: t.Qwen2_5_VLForConditionalGeneration(
                t.Qwen2_5_VLConfig(text_config=language | {"rope_parameters": ROPE}, vision_config=VISION)
            ),
        }[kind]()
        for parameter in made.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return made.eval()


KINDS = ["clip", "clip_projected", "t5", "umt5", "gemma2", "gemma3_text", "llama", "qwen2", "qwen3", "qwen2_5_vl"]


def save(kind: str, folder: Path) -> Path:
    """The model and its tokenizer in one folder."""
    model_of(kind).save_pretrained(folder)
    tokens_of(kind).save_pretrained(folder)
    return folder
