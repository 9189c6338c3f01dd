"""Lengths and sides that the VAE would cut are refused with the plan, before anything is read."""

import json
from pathlib import Path

import pytest
import torch
from helpers.tiny_vaes import CLASSES, FACTORS, STEPS, TINY

from curation.encoding.fits import nearest
from curation.errors import UsageError
from curation.load import load
from curation.models.diffusers_families import accepted_sizes_of
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import AcceptedSizes, describe
from curation.plan import make_plan

CLIPS = "  - shots: {method: content}\n  - clips\n"


def plan(folder: Path, encode: str, score: str = CLIPS) -> None:
    (folder / "m.yaml").write_text(f"name: a\nsource: {{folder: x}}\nscore:\n  - probe\n{score}encode:\n{encode}")
    make_plan(load(str(folder / "m.yaml")))


def test_frames_that_do_not_fit_are_named_with_the_nearest_that_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        plan(tmp_path, "  vae: video_autoencoder\n  frames: [17, 24, 80]\n")
    assert str(refused.value) == (
        f"{tmp_path}/m.yaml:9: encode.frames: embedded:video-autoencoder-4x8x16 takes 1 + 4k frames and would lose "
        "the last of 24, 80; the nearest that fit: 21, 25, 77, 81"
    )
    plan(tmp_path, "  vae: video_autoencoder\n  frames: [1, 17, 81]\n")
    assert (nearest(24, 4), nearest(48, 8)) == ((21, 25), (41, 49))


def test_without_clips_or_latents_any_length_may_stand_there(tmp_path: Path) -> None:
    plan(tmp_path, "  vae: video_autoencoder\n  frames: [16]\n", score="")
    plan(tmp_path, "  latents: false\n  media: true\n  frames: [16]\n")


def test_a_vae_of_pictures_takes_no_clips(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.yaml:7: encode\.vae: embedded:autoencoder-8x16 encodes pictures and no"):
        plan(tmp_path, "  size: 64\n")


@pytest.mark.parametrize("name", CLASSES)
def test_what_each_family_takes_is_known_without_its_weights(name: str, tmp_path: Path) -> None:
    patch_torchvision()
    import diffusers

    torch.manual_seed(0)
    getattr(diffusers, name)(**TINY[name]).save_pretrained(tmp_path / "vae")
    side, step = FACTORS.get(name, (8, 4))[0], STEPS.get(name, 8)
    assert describe("vae", f"diffusers:{tmp_path / 'vae'}").accepted_sizes == AcceptedSizes(side, step)
    frames = f"  vae: diffusers:{tmp_path / 'vae'}\n  size: 64\n  frames: [{1 + step}, {2 + step}]\n"
    with pytest.raises(UsageError, match=rf"m\.yaml:10: encode\.frames: .* 1 \+ {step}k .* of {2 + step}; .*"):
        plan(tmp_path, frames)


def test_an_old_config_has_the_constructors_defaults() -> None:
    """The Wan 2.1 and LTX 0.9 configs on the hub are older than these keys."""
    assert accepted_sizes_of({"_class_name": "AutoencoderKLWan", "z_dim": 16}) == AcceptedSizes(8, 4)
    assert accepted_sizes_of({"_class_name": "AutoencoderKLLTXVideo"}) == AcceptedSizes(32, 8)
    assert accepted_sizes_of({"_class_name": "AutoencoderKLCogVideoX"}) == AcceptedSizes(8, 8)
    assert accepted_sizes_of({"_class_name": "AutoencoderKLHunyuanVideo"}) == AcceptedSizes(8, 4)
    assert accepted_sizes_of({"_class_name": "AutoencoderKL", "block_out_channels": [1, 2, 3, 4]}) == AcceptedSizes(
        8, 0
    )
    assert accepted_sizes_of({"_class_name": "Unheard"}) is None


def test_sides_that_the_vae_would_cut_are_refused_or_made_to_fit(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps({"_class_name": "AutoencoderKLLTXVideo"}))
    (tmp_path / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"")
    encode = f"  vae: diffusers:{tmp_path / 'vae'}\n  buckets: aspect\n"
    with pytest.raises(UsageError, match=r"m\.yaml:9: encode\.buckets: .* multiples of 32, not .*; say `multiple: 32`"):
        plan(tmp_path, encode)
    plan(tmp_path, encode + "  multiple: 32\n")
    with pytest.raises(UsageError, match=r"not 320x176; .* or list others, such as 320x192"):
        plan(tmp_path, encode.replace("aspect", '["320x176"]'))
