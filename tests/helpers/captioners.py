"""Real captioners of transformers at a tiny random size, saved as `save_pretrained` saves real ones."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.models.torchvision_mend import mend

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


def qwen3_vl() -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    words = tokenizer(*names.values(), **{f"{name}_token": token for name, token in names.items()})
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 1e4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen3VLConfig(
        text_config=text_config(words, rope_parameters=rope),
        vision_config={**vision, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **{f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in names.items()},
    )
    images = Qwen2VLImageProcessor(patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen3VLProcessor(images, words, Qwen3VLVideoProcessor(), chat_template=template)
    return Qwen3VLForConditionalGeneration(config), processor


def idefics3() -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    names = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    words = tokenizer(*names, *(f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)))
    config = Idefics3Config(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        scale_factor=2,
    )
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(images, words, image_seq_len=4, chat_template=TEMPLATE.replace("IMAGE", "<image>"))
    return Idefics3ForConditionalGeneration(config), processor


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
    "qwen3_vl": qwen3_vl,
    "idefics3": idefics3,
    "llava": llava,
    "blip": blip,
}


def save(name: str, folder: Path) -> Path:
    """Make the model `name` with fixed random weights, large enough that it says other words for other pictures."""
    mend()
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
