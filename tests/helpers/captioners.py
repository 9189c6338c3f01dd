"""Real captioners of transformers at a tiny random size, saved as `save_pretrained` saves real ones."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.models.patch_torchvision import patch_torchvision

LORE = "a red green blue cat runs under the hill and dog sits beside big boat over sea tree sky house jumps"
WORDS = [*re.findall(r"\w+", LORE), "."]
TURN = ["<|end|>", "<|pad|>", "<unk>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %} {{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(*extra: str, **named: str) -> Any:
    """Whole words alone, so that whatever a random model says is text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*TURN, *extra, *WORDS])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.add_special_tokens([*TURN, *extra])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token=TURN[0], pad_token=TURN[1], unk_token=TURN[2], extra_special_tokens=named
    )


def text_config(words: Any, **more: Any) -> dict[str, Any]:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": None}
    return {"vocab_size": len(words), "num_key_value_heads": 1, "head_dim": 16, **size, **ids, **more}


VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


QWEN = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
QWEN |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
QWEN_ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4}
QWEN_TEMPLATE = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")


def qwen(kind: str, patch: int, vision: dict[str, Any], video_processor: str, **rope: Any) -> tuple[Any, Any]:
    """Of the line Qwen2-VL, Qwen2.5-VL, Qwen3-VL."""
    import transformers

    words = tokenizer(*QWEN.values(), **{f"{name}_token": token for name, token in QWEN.items()})
    config = getattr(transformers, f"{kind}Config")(
        text_config=text_config(words, rope_parameters=QWEN_ROPE | rope),
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 2, **vision},
        **{f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in QWEN.items()},
    )
    size = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (6 * patch) ** 2}
    images = transformers.Qwen2VLImageProcessor(patch_size=patch, size=size)
    videos = getattr(transformers, video_processor)()
    processor = getattr(transformers, f"{kind}Processor")(images, words, videos, chat_template=QWEN_TEMPLATE)
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    return qwen("Qwen2VL", 14, {"embed_dim": 32, "mlp_ratio": 2}, "Qwen2VLVideoProcessor")


def qwen2_5_vl() -> tuple[Any, Any]:
    vision = {"intermediate_size": 64, "out_hidden_size": 32, "fullatt_block_indexes": [1], "window_size": 56}
    return qwen("Qwen2_5_VL", 14, vision, "Qwen2VLVideoProcessor")


def qwen3_vl() -> tuple[Any, Any]:
    vision = {"intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 64}
    vision |= {"deepstack_visual_indexes": [0]}  # type: ignore[dict-item]
    return qwen("Qwen3VL", 16, vision, "Qwen3VLVideoProcessor", mrope_interleaved=True)


def smol(kind: str, *videos: Any, **named: str) -> tuple[Any, Any]:
    """Idefics3 (and the first SmolVLM), or SmolVLM2: pictures in tiles."""
    import transformers

    names = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tiles = (f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
    words = tokenizer(*names, *tiles, **named)
    config = getattr(transformers, f"{kind}Config")(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        scale_factor=2,
    )
    tiling = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    images = getattr(transformers, f"{kind}ImageProcessor")(**tiling)
    template = TEMPLATE.replace("IMAGE", "<image>")
    processor = getattr(transformers, f"{kind}Processor")(
        images, words, *videos, image_seq_len=4, chat_template=template
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def idefics3() -> tuple[Any, Any]:
    return smol("Idefics3")


def smolvlm() -> tuple[Any, Any]:
    from transformers import SmolVLMVideoProcessor

    edge = {"longest_edge": 32}
    sampling = {"fps": 1, "max_frames": 8, "video_size": edge}
    videos = SmolVLMVideoProcessor(size=edge, max_image_size=edge, video_sampling=sampling)
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    named |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    return smol("SmolVLM", videos, **named)


def llava() -> tuple[Any, Any]:
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer("<image>", image_token="<image>")
    config = LlavaConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 32, "patch_size": 8},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    return LlavaForConditionalGeneration(config), processor


def blip() -> tuple[Any, Any]:
    from tokenizers.processors import TemplateProcessing
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    words = tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A <|end|>", special_tokens=[("<|user|>", 3), ("<|end|>", 0)]
    )
    ids = {"bos_token_id": 3, "sep_token_id": words.eos_token_id}
    config = BlipConfig(
        text_config={**text_config(words), **ids, "encoder_hidden_size": 32, "projection_dim": 32},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        projection_dim=32,
        image_text_hidden_size=32,
    )
    return BlipForConditionalGeneration(config), BlipProcessor(
        BlipImageProcessor(size={"height": 32, "width": 32}), words
    )


MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    maker.__name__: maker for maker in (qwen2_vl, qwen2_5_vl, qwen3_vl, idefics3, smolvlm, llava, blip)
}
if find_spec("num2words") is None:  # which SmolVLM's processor needs
    del MAKERS["smolvlm"]


def save(name: str, folder: Path) -> Path:
    """Make the model `name` with fixed random weights, large enough that it says other words for other pictures."""
    patch_torchvision()
    import torch

    torch.manual_seed(2)
    model, processor = MAKERS[name]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.25)
    words, config = processor.tokenizer, model.generation_config
    config.eos_token_id, config.pad_token_id, config.min_new_tokens = words.eos_token_id, words.pad_token_id, 3
    config.suppress_tokens = [i for i in words.all_special_ids if i != words.eos_token_id]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
