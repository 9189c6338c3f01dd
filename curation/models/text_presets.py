"""The text encoders that families of models want, and the manifest's `text:` as the name of one text model.

Facts are those of the pipelines of diffusers 0.42, named with each preset; tests/test_text_presets.py
compares with them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from curation.models.text_several import several_spec
from curation.models.text_spec import NAME, TextSettings

HUNYUAN_VIDEO = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{caption}<|eot_id|>"
)
"""What the family was trained to read: DEFAULT_PROMPT_TEMPLATE of pipeline_hunyuan_video.py."""
QWEN_IMAGE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{caption}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""What the family was trained to read: `prompt_template_encode` of pipeline_qwenimage.py."""
CLIP = {"layer": -2, "max_tokens": 77, "padded": True}


@dataclass(frozen=True)
class Preset:
    """Encoders of a family.

    pipeline  hub id whose subfolders hold the encoders, unless the manifest names another place
    encoders  (name, subfolder, settings); the first gives the main states
    source    where the facts come from
    """

    pipeline: str
    encoders: tuple[tuple[str, str, TextSettings], ...]
    source: str

    def specs(self, place: str) -> list[tuple[str, str]]:
        """(name, spec) of each encoder of the pipeline at `place`, a folder or a hub id; "" for the usual one."""
        root = (place or self.pipeline).rstrip("/")
        return [(name, _with(f"transformers:{root}/{folder}", own)) for name, folder, own in self.encoders]


PRESETS = {
    "sdxl": Preset(
        "stabilityai/stable-diffusion-xl-base-1.0",
        (
            ("clip_l", "text_encoder", TextSettings.model_validate(CLIP)),
            ("clip_g", "text_encoder_2", TextSettings.model_validate(CLIP | {"pooled": True})),
        ),
        "StableDiffusionXLPipeline.encode_prompt: hidden_states[-2] of both over 77 tokens with padding and no mask, "
        "joined along D; the pooled output is the second's text_embeds",
    ),
    "sd3": Preset(
        "stabilityai/stable-diffusion-3.5-large",
        (
            ("clip_l", "text_encoder", TextSettings.model_validate(CLIP | {"pooled": True})),
            ("clip_g", "text_encoder_2", TextSettings.model_validate(CLIP | {"pooled": True})),
            ("t5", "text_encoder_3", TextSettings(max_tokens=256, padded=True)),
        ),
        "StableDiffusion3Pipeline.encode_prompt: hidden_states[-2] of both CLIPs joined along D and padded to T5's; "
        "T5's last state over 256 tokens with padding and no mask; text_embeds of both joined as the pooled output",
    ),
    "flux": Preset(
        "black-forest-labs/FLUX.1-dev",
        (
            ("t5", "text_encoder_2", TextSettings(max_tokens=512, padded=True)),
            ("clip_l", "text_encoder", TextSettings(max_tokens=77, padded=True, pooled="only")),
        ),
        "FluxPipeline.encode_prompt: T5's last state over 512 tokens with padding and no mask; CLIP's pooler_output",
    ),
    "wan": Preset(
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        (("umt5", "text_encoder", TextSettings(max_tokens=512)),),
        "WanPipeline.encode_prompt: UMT5's last state over at most 512 tokens, masked; behind them zeros",
    ),
    "hunyuanvideo": Preset(
        "hunyuanvideo-community/HunyuanVideo",
        (
            ("llama", "text_encoder", TextSettings(layer=-3, max_tokens=351, template=HUNYUAN_VIDEO, skip=95)),
            ("clip_l", "text_encoder_2", TextSettings(max_tokens=77, padded=True, pooled="only")),
        ),
        "HunyuanVideoPipeline.encode_prompt: Llama's hidden_states[-3] over 95 + 256 tokens, masked, without the "
        "template's first 95; CLIP's pooler_output",
    ),
    "ltx": Preset(
        "Lightricks/LTX-Video",
        (("t5", "text_encoder", TextSettings(max_tokens=128, padded="seen")),),
        "LTXPipeline.encode_prompt: T5's last state over 128 tokens with padding and no mask; its transformer is given "
        "the mask",
    ),
    "qwen-image": Preset(
        "Qwen/Qwen-Image",
        (("qwen2_5_vl", "text_encoder", TextSettings(max_tokens=1058, template=QWEN_IMAGE, skip=34)),),
        "QwenImagePipeline.encode_prompt: Qwen2.5-VL's last state over 34 + 1024 tokens, masked, without "
        "the template's first 34",
    ),
}


class TextSection(TextSettings):
    """One text encoder of `encode: text:`."""

    model: str = Field(description="transformers:FOLDER, transformers:HUB/ID or embedded")
    name: str | None = Field(
        None, pattern=NAME, description="of its part in samples, beside others; default its model's"
    )


Text = str | TextSection
"""What stands for one encoder, or for those of a preset."""


def text_spec(given: Text | Sequence[Text]) -> str:
    """The name of the text model that a manifest's `text:` means. Raises ValueError with a sentence."""
    items = [given] if isinstance(given, str | TextSection) else list(given)
    named = [pair for item in items for pair in _specs(item)]
    if not named:
        raise ValueError("an empty list names no text encoder; say `text: null` for captions as words")
    if len(named) == 1:
        return named[0][1]
    names = [name for name, _ in named]
    names += [f"{name}_pooled" for name, spec in named if "pooled=true" in spec.partition("?")[2].split("&")]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two text parts have the name '{twice[0]}'; give each encoder a `name:` of its own")
    return several_spec(named)


def _specs(item: Text) -> list[tuple[str, str]]:
    """(name, spec) of an entry; of a preset that of each encoder."""
    model = item if isinstance(item, str) else item.model
    family, _, place = model.partition(":")
    plain = isinstance(item, str) or not item.query
    if family in PRESETS:
        if not plain:
            raise ValueError(f"the preset '{family}' brings its own settings; list its encoders to change them")
        return PRESETS[family].specs(place)
    if plain:
        return [(_name(item), model)]
    if family != "transformers" or "?" in model:
        raise ValueError(
            f"'{model}' takes no settings here; they are those of transformers:FOLDER or transformers:HUB/ID"
        )
    assert isinstance(item, TextSection)
    return [(_name(item), _with(model, item))]


def _with(model: str, settings: TextSettings) -> str:
    return f"{model}?{settings.query}" if settings.query else model


def _name(item: Text) -> str:
    """As the section says, or the model's: `transformers:google/t5-v1_1-xxl` is t5_v1_1_xxl."""
    if isinstance(item, TextSection) and item.name:
        return item.name
    model = item if isinstance(item, str) else item.model
    last = model.partition("?")[0].rstrip("/").rpartition("/")[2].rpartition(":")[2].lower()
    return re.sub("[^a-z0-9]+", "_", last).strip("_").lstrip("0123456789_")[:24] or "text"
