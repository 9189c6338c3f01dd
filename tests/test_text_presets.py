"""`text: sdxl` and its like give what that pipeline of diffusers gives its network, at tiny random sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.text_encoders import model_of, tokens_of

from curation.manifest import EncodeSection
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import describe, open_model
from curation.models.text_presets import PRESETS, TextSection, text_spec

PROMPTS = ["a red cat sits under a tree", "two boats, painted in oil", "sky " * 199 + "sky"]
CLOSE = 1e-3
FAMILIES = {
    "sdxl": ("StableDiffusionXLPipeline", ["clip", "clip_projected"]),
    "sd3": ("StableDiffusion3Pipeline", ["clip_projected", "clip_projected", "t5_wide"]),
    "flux": ("FluxPipeline", ["clip", "t5"]),
    "wan": ("WanPipeline", ["umt5"]),
    "hunyuanvideo": ("HunyuanVideoPipeline", ["llama", "clip"]),
    "ltx": ("LTXPipeline", ["t5"]),
    "qwen-image": ("QwenImagePipeline", ["qwen2_5_vl"]),
}


def pipeline(family: str, folder: Path) -> Any:
    """The pipeline with its text encoders alone; they are saved as a pipeline's folder has them."""
    patch_torchvision()
    import diffusers

    name, kinds = FAMILIES[family]
    parts: dict[str, Any] = {}
    for i, kind in enumerate(kinds):
        number = f"_{i + 1}" if i else ""
        parts |= {f"text_encoder{number}": model_of(kind), f"tokenizer{number}": tokens_of(kind)}
    for part, made in parts.items():
        made.save_pretrained(folder / part)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    network = "unet" if family == "sdxl" else "transformer"
    return getattr(diffusers, name)(**parts, **{network: None}, vae=None, scheduler=scheduler)


def ours(family: str, folder: Path) -> dict[str, list[Any]]:
    """Parts by name ("" where there is one alone), before they are rounded to fp16, which `encode` does."""
    model = open_model("text", text_spec(f"{family}:{folder}"))
    encoders = getattr(model, "encoders", {"": model})
    states: dict[str, list[Any]] = {}
    for name, encoder in encoders.items():
        for part, values in zip(("", "_pooled"), zip(*encoder.states(PROMPTS), strict=True), strict=False):
            states[name + part] = list(values)
    stored = model.encode(PROMPTS)
    for name, values in states.items():
        halfs = stored.main if name == next(iter(states)) else stored.more[name]
        assert all(np.array_equal(a, b.astype(np.float16)) for a, b in zip(halfs, values, strict=True))
    return states


def gap(theirs: Any, made: Any) -> float:
    assert tuple(theirs.shape) == made.shape
    return float(np.abs(theirs.numpy() - made).max())


def sdxl(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, _, pooled, _ = pipe.encode_prompt(PROMPTS[i], device="cpu", do_classifier_free_guidance=False)
    joined = np.concatenate([states["clip_l"][i], states["clip_g"][i]], axis=-1)
    return max(gap(embeds[0], joined), gap(pooled, states["clip_g_pooled"][i]))


def sd3(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, _, pooled, _ = pipe.encode_prompt(
        PROMPTS[i], None, None, device="cpu", do_classifier_free_guidance=False, max_sequence_length=256
    )
    clips = np.concatenate([states["clip_l"][i], states["clip_g"][i]], axis=-1)
    width = max(clips.shape[1], states["t5"][i].shape[1])
    joined = np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (clips, states["t5"][i])])
    return max(
        gap(embeds[0], joined),
        gap(pooled, np.concatenate([states["clip_l_pooled"][i], states["clip_g_pooled"][i]], axis=-1)),
    )


def flux(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, pooled, _ = pipe.encode_prompt(PROMPTS[i], None, device="cpu", max_sequence_length=512)
    return max(gap(embeds[0], states["t5"][i]), gap(pooled, states["clip_l"][i]))


def wan(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, _ = pipe.encode_prompt(PROMPTS[i], device="cpu", do_classifier_free_guidance=False, max_sequence_length=512)
    made = states[""][i]
    assert not embeds[0, len(made) :].any()
    return gap(embeds[0, : len(made)], made)


def hunyuanvideo(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, pooled, mask = pipe.encode_prompt(PROMPTS[i], device="cpu")
    return max(gap(embeds[0][mask[0].bool()], states["llama"][i]), gap(pooled, states["clip_l"][i]))


def ltx(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, mask, _, _ = pipe.encode_prompt(
        PROMPTS[i], device="cpu", do_classifier_free_guidance=False, max_sequence_length=128
    )
    return gap(embeds[0][mask[0].bool()], states[""][i])


def qwen_image(pipe: Any, i: int, states: dict[str, list[Any]]) -> float:
    embeds, mask = pipe.encode_prompt(PROMPTS[i], device="cpu")
    assert mask is None or mask.all()
    return gap(embeds[0], states[""][i])


COMPARED: dict[str, Callable[[Any, int, dict[str, list[Any]]], float]] = {
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "wan": wan,
    "hunyuanvideo": hunyuanvideo,
    "ltx": ltx,
    "qwen-image": qwen_image,
}


@pytest.mark.parametrize("family", COMPARED)
def test_a_preset_gives_what_its_pipeline_gives(family: str, tmp_path: Path) -> None:
    compared = COMPARED[family]
    pipe = pipeline(family, tmp_path)
    states = ours(family, tmp_path)
    with torch.no_grad():
        gaps = [compared(pipe, i, states) for i in range(len(PROMPTS))]
    print(f"largest difference of {family}: {max(gaps):.2g}")
    assert max(gaps) <= CLOSE
    main = next(iter(states.values()))
    assert main[0].shape != main[1].shape or np.abs(main[0] - main[1]).max() > 0.1  # the caption is read


def test_every_preset_says_where_its_facts_come_from_and_what_it_lacks(tmp_path: Path) -> None:
    assert set(PRESETS) == set(FAMILIES) == set(COMPARED)
    for family, preset in PRESETS.items():
        assert preset.source.startswith(f"{FAMILIES[family][0]}.encode_prompt: ")
        problem = describe("text", text_spec(f"{family}:{tmp_path}")).problem
        assert problem and f"there is no folder {tmp_path}" in problem


def test_the_forms_of_text() -> None:
    def spec(text: Any) -> str:
        return EncodeSection(text=text).text_model

    assert spec("embedded") == "embedded" and EncodeSection().text == "embedded"
    assert EncodeSection(text=None, latents=False, media=True).text_model == ""
    assert spec("transformers:/m/clip") == spec({"model": "transformers:/m/clip"}) == "transformers:/m/clip"
    assert spec(["embedded"]) == "embedded"
    long = {"model": "transformers:/m/clip", "layer": -2, "max_tokens": 77, "template": "of {caption}", "pooled": True}
    assert spec(long) == "transformers:/m/clip?layer=-2&max_tokens=77&template=of+%7Bcaption%7D&pooled=true"
    assert spec(["transformers:google/T5-v1.1", long | {"name": "other"}]).startswith(
        'several:[["t5_v1_1","transformers:google/T5-v1.1"],["other","transformers:/m/clip?layer=-2'
    )
    assert spec("wan") == "transformers:Wan-AI/Wan2.1-T2V-1.3B-Diffusers/text_encoder?max_tokens=512"
    again = EncodeSection.model_validate(EncodeSection(text=["embedded", long]).model_dump(mode="json"))
    assert again.text_model == spec(["embedded", long])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ([], "an empty list names no text encoder"),
        (["embedded", "embedded"], "two text parts have the name 'embedded'"),
        (
            [
                {"model": "transformers:x", "name": "clip", "pooled": True},
                {"model": "transformers:y", "name": "clip_pooled"},
            ],
            "two text parts have the name 'clip_pooled'",
        ),
        ({"model": "embedded", "layer": 1}, "'embedded' takes no settings"),
        ({"model": "sdxl", "layer": 1}, "the preset 'sdxl' brings its own settings"),
        ({"model": "transformers:x", "template": "no place"}, "says once where the caption stands"),
        ({"model": "transformers:x", "name": "../x"}, "pattern"),
    ],
)
def test_mistakes_in_text_are_sentences(text: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EncodeSection(text=text)


def test_a_section_is_the_settings_and_a_model() -> None:
    assert text_spec(TextSection(model="transformers:x", pooled="only")) == "transformers:x?pooled=only"
