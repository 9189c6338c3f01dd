"""Every autoencoder class of the installed diffusers: known here, and scaled as its pipeline scales.

Each family is a real architecture at a tiny random size, through the real loading path. The formulas are the pipelines'
own: called where a pipeline has a function for them, otherwise written as they stand in its source.
"""

import ast
import builtins
import inspect
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_vaes import MEAN, PICTURES, STATISTICS, STD, TINY

from curation.errors import CurationError
from curation.models.diffusers_families import FAMILIES, REFUSED, accepted_sizes_of, problem_of
from curation.models.diffusers_vae import DiffusersVae, patched, unpatched
from curation.models.patch_torchvision import patch_torchvision
from curation.models.vae import Vae

patch_torchvision()
import diffusers  # noqa: E402 (torchvision has to be patched first)
from diffusers.models import autoencoders  # noqa: E402


class Recorder:
    """Stands where a pipeline has its VAE, with that VAE's config and buffers: keeps what it is asked to decode."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.decoded: torch.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def decode(self, latents: torch.Tensor, *args: Any, **options: Any) -> Any:
        self.decoded = latents
        return SimpleNamespace(sample=latents) if options.get("return_dict", True) else (latents,)


class Names(dict[str, Any]):
    """A pipeline's other local variables: None."""

    def __missing__(self, name: str) -> Any:
        if name == "torch" or hasattr(builtins, name):
            raise KeyError(name)


SCALES = re.compile(r"vae\.config|latents_mean|latents_std")


def is_decoding(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and "self.vae.decode(" in ast.unparse(line)


def pipeline_decodes(name: str) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """The statements that stand before and in `self.vae.decode(...)` of a pipeline's own `__call__`."""

    def decode(model: Any, latents: torch.Tensor) -> torch.Tensor:
        tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(diffusers, name).__call__)))
        recorder = Recorder(model)
        vae = SimpleNamespace(vae=recorder, scheduler=SimpleNamespace(config=SimpleNamespace(sigma_data=1.0)))
        names = Names(self=vae, latents=latents, output_type="pt", condition_kwargs={})
        blocks = [getattr(node, part, None) for node in ast.walk(tree) for part in ("body", "orelse")]
        bodies = [block for block in blocks if isinstance(block, list)]
        block = next(body for body in bodies if any(map(is_decoding, body)))
        for line in block:
            text = ast.unparse(line)
            if is_decoding(line) or (isinstance(line, ast.Assign | ast.If) and SCALES.search(text)):
                exec(text, {"torch": torch}, names)
        assert recorder.decoded is not None, f"{name} decodes nothing"
        return recorder.decoded

    return decode


def called(function: Any) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """A method of a pipeline that denormalises and decodes."""

    def decode(model: Any, latents: torch.Tensor) -> torch.Tensor:
        recorder = Recorder(model)
        function(SimpleNamespace(vae=recorder, vae_scaling_factor_image=model.config.scaling_factor), latents)
        assert recorder.decoded is not None
        return recorder.decoded

    return decode


def ltx(pipeline: Any) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    def denormalise(model: Any, latents: torch.Tensor) -> torch.Tensor:
        denormalised = pipeline._denormalize_latents(
            latents, model.latents_mean, model.latents_std, model.config.scaling_factor
        )
        assert isinstance(denormalised, torch.Tensor)
        return denormalised

    return denormalise


DECODED: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "AutoencoderKL": pipeline_decodes("StableDiffusionXLPipeline"),
    "AsymmetricAutoencoderKL": pipeline_decodes("StableDiffusionInpaintPipeline"),
    "ConsistencyDecoderVAE": pipeline_decodes("StableDiffusionPipeline"),
    "AutoencoderTiny": lambda model, z: z / model.config.scaling_factor + model.config.shift_factor,
    "AutoencoderDC": pipeline_decodes("SanaPipeline"),
    "AutoencoderKLHunyuanImage": pipeline_decodes("HunyuanImagePipeline"),
    "AutoencoderKLHunyuanImageRefiner": lambda model, latents: latents / model.config.scaling_factor,
    "AutoencoderKLQwenImage": pipeline_decodes("QwenImagePipeline"),
    "AutoencoderKLQwenImage21": pipeline_decodes("QwenImage21Pipeline"),
    "AutoencoderKLTemporalDecoder": lambda model, latents: 1 / model.config.scaling_factor * latents,
    "AutoencoderKLWan": pipeline_decodes("WanPipeline"),
    "AutoencoderKLLTXVideo": ltx(diffusers.LTXPipeline),
    "AutoencoderKLLTX2Video": ltx(diffusers.LTX2ImageToVideoPipeline),
    "AutoencoderKLCogVideoX": called(
        lambda pipeline, z: diffusers.CogVideoXPipeline.decode_latents(pipeline, z.permute(0, 2, 1, 3, 4))
    ),
    "AutoencoderKLHunyuanVideo": pipeline_decodes("HunyuanVideoPipeline"),
    "AutoencoderKLHunyuanVideo15": pipeline_decodes("HunyuanVideo15Pipeline"),
    "AutoencoderKLMochi": pipeline_decodes("MochiPipeline"),
    "AutoencoderKLMagvit": pipeline_decodes("EasyAnimatePipeline"),
    "AutoencoderKLCosmos": pipeline_decodes("CosmosTextToWorldPipeline"),
    "Kandinsky6SRVAE": called(diffusers.Kandinsky6SRPipeline.decode_latents),
}
"""What a pipeline hands its VAE to decode, for latents that its denoiser gave. Flux 2 has a test of its own."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DiffusersVae]:
    """A tiny VAE of a class, saved and opened as users have them; buffers are not what they start as."""
    opened: dict[str, DiffusersVae] = {}

    def make(name: str) -> DiffusersVae:
        if name not in opened:
            torch.manual_seed(0)
            folder, model = tmp_path_factory.mktemp(name), getattr(diffusers, name)(**TINY[name])
            for buffer, value in (("latents_mean", MEAN), ("latents_std", STD)):
                if name.startswith("AutoencoderKLLTX"):
                    getattr(model, buffer).copy_(torch.tensor(value))
            if name == "AutoencoderKLFlux2":
                model.bn.running_mean.copy_(torch.arange(8) / 4)
                model.bn.running_var.copy_(torch.arange(8) + 0.5)
            model.save_pretrained(folder)
            opened[name] = DiffusersVae(str(folder))
        return opened[name]

    return make


def pixels(vae: DiffusersVae, frames: int = 0) -> torch.Tensor:
    """Noise in [-1, 1] of twice the least side that a VAE takes, at least 32 px."""
    side = max(32, 2 * vae.spatial_factor)
    shape = (2, 3, *([frames] if frames else []), side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def unit(vae: DiffusersVae, latents: torch.Tensor) -> torch.Tensor:
    shape = [1, -1, *[1] * (latents.ndim - 2)]
    return (latents - torch.tensor(vae.latents_mean).view(shape)) / torch.tensor(vae.latents_std).view(shape)


def test_every_class_of_diffusers_is_known() -> None:
    classes = {name for name, found in vars(autoencoders).items() if inspect.isclass(found)}
    assert classes == {*FAMILIES, *REFUSED} and not set(FAMILIES) & set(REFUSED)
    assert set(TINY) == set(FAMILIES) == {*DECODED, "AutoencoderKLFlux2"}
    for family in FAMILIES.values():
        for name in (
            word for word in family.pipeline.replace(",", " ").replace(";", " ").split() if "Pipeline" in word
        ):
            assert hasattr(diffusers, name), name


@pytest.mark.parametrize("name", DECODED)
def test_normalised_latents_are_what_the_pipeline_decodes(made: Callable[[str], DiffusersVae], name: str) -> None:
    vae = made(name)
    raw, _ = vae.encode(pixels(vae))
    raw = raw[:, :, None] if vae.family.clips in ("causal", "still") else raw
    assert raw.std() > 0
    assert torch.allclose(DECODED[name](vae.model, unit(vae, raw)), raw, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_factors_are_those_that_the_model_has(made: Callable[[str], DiffusersVae], name: str) -> None:
    vae = made(name)
    takes = accepted_sizes_of({"_class_name": name, **dict(vae.model.config)})
    assert takes and (takes.side, takes.frames) == (
        vae.spatial_factor,
        vae.frame_step if vae.family.of_clips else 0,
    )
    picture = pixels(vae)
    mean, logvar = vae.encode(picture)
    side = picture.shape[-1] // vae.spatial_factor
    assert mean.shape == (2, vae.channels, side, side) and mean.dtype == torch.float32
    assert logvar is None or logvar.shape == mean.shape
    assert vae.decode(mean).shape == picture.shape
    if vae.family.of_clips:
        clip = pixels(vae, 1 + vae.frame_step)
        mean, _ = vae.encode(clip)
        assert mean.shape == (2, vae.channels, 1 + vae.frame_step // vae.temporal_factor, side, side)
        assert vae.decode(mean).shape == clip.shape


@pytest.mark.parametrize("name", FAMILIES)
def test_the_posterior_is_the_models_own(made: Callable[[str], DiffusersVae], name: str) -> None:
    """Raw, without scaling; a picture of a video VAE is a clip of one frame."""
    vae, (a, b) = made(name), FAMILIES[name].pixels
    picture = pixels(vae)
    seen = picture[:, :, None] if vae.family.clips in ("causal", "still") else picture
    if name == "AutoencoderKLQwenImage21":
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)  # opaque
    seen, picture = (seen[:1], picture[:1]) if vae.family.alone else (seen, picture)
    with torch.inference_mode():
        output = vae.model.encode(seen if (a, b) == (1, 0) else a * seen + b)
    if name in ("AutoencoderTiny", "AutoencoderDC"):
        expected = output.latents if name == "AutoencoderTiny" else output.latent
    else:
        expected = output.latent_dist.mode()
    expected = expected[:, :, 0] if vae.family.clips in ("causal", "still") else expected
    if name == "AutoencoderKLFlux2":
        expected = diffusers.Flux2Pipeline._patchify_latents(expected)
    assert torch.equal(vae.encode(picture)[0], expected)


def test_flux_2_normalises_patches(made: Callable[[str], DiffusersVae]) -> None:
    vae = made("AutoencoderKLFlux2")
    pipeline = SimpleNamespace(vae=vae.model, _patchify_latents=diffusers.Flux2Pipeline._patchify_latents)
    picture = pixels(vae)
    with torch.inference_mode():
        expected = diffusers.Flux2Pipeline._encode_vae_image(pipeline, picture, None)
    assert (vae.channels, vae.spatial_factor) == (8, 8)
    assert torch.allclose(unit(vae, vae.encode(picture)[0]), expected, atol=1e-6)
    latents = torch.randn(2, 3, 8, 6)
    assert torch.equal(unpatched(patched(latents, (2, 2)), (2, 2)), latents)
    assert torch.equal(patched(latents, (2, 2)), diffusers.Flux2Pipeline._patchify_latents(latents))


def test_kandinsky_6_has_pixels_of_its_own(made: Callable[[str], DiffusersVae]) -> None:
    vae = made("Kandinsky6SRVAE")
    clip = pixels(vae, 5)
    with torch.inference_mode():
        expected = diffusers.Kandinsky6SRPipeline.encode_video(SimpleNamespace(vae=Recorder(vae.model)), clip)
    assert torch.allclose(unit(vae, vae.encode(clip)[0]), expected, atol=1e-6)


def test_frames_that_are_encoded_one_by_one_stay_apart(made: Callable[[str], DiffusersVae]) -> None:
    """StableVideoDiffusionPipeline decodes [B * T, C, h, w] with num_frames."""
    vae = made("AutoencoderKLTemporalDecoder")
    clip = pixels(vae, 3)
    mean, _ = vae.encode(clip)
    assert mean.shape[:3] == (2, 4, 3)
    assert torch.allclose(mean[:, :, 1], vae.encode(clip[:, :, 1])[0], atol=1e-6)
    with torch.inference_mode():
        expected = vae.model.decode(mean.movedim(2, 1).flatten(0, 1), num_frames=3).sample
    assert torch.equal(vae.decode(mean), expected.unflatten(0, (2, 3)).movedim(1, 2))


def test_a_decoder_that_starts_from_noise_gives_the_same_each_time(made: Callable[[str], DiffusersVae]) -> None:
    vae = made("ConsistencyDecoderVAE")
    latents = vae.encode(pixels(vae))[0]
    assert torch.equal(vae.decode(latents), vae.decode(latents))


def test_a_vae_without_a_posterior_stores_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    diffusers.AutoencoderDC(**TINY["AutoencoderDC"]).save_pretrained(tmp_path)
    ((mean, logvar),) = Vae(f"diffusers:{tmp_path}").posteriors([np.zeros((64, 64, 3), np.uint8)])
    assert mean.shape == (4, 1, 16, 16) and logvar is None


def test_ltx_that_is_conditioned_on_a_timestep_is_decoded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLLTXVideo(**TINY["AutoencoderKLLTXVideo"], timestep_conditioning=True)
    model.save_pretrained(tmp_path)
    vae = DiffusersVae(str(tmp_path))
    assert vae.decode(vae.encode(pixels(vae))[0]).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({}, [0.0] * 4, [2.0] * 4),
        ({"shift_factor": 0.25}, [0.25] * 4, [2.0] * 4),
        (STATISTICS, MEAN, [3.0, 4.0, 1.0, 2.0]),
        ({"latents_mean": MEAN}, [0.0] * 4, [2.0] * 4),  # the pipeline uses both statistics, or neither
        (
            {"latents_mean": [-1.6, 1.1, 0.3, -0.1], "latents_std": [8.5, 6.0, 5.5, 5.2]},
            [-1.6, 1.1, 0.3, -0.1],
            [17.0, 12.0, 11.0, 10.4],
        ),
    ],
)
def test_statistics_and_scaling_factor_hold_together(
    tmp_path: Path, changes: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    """latents * latents_std / scaling_factor + latents_mean, as StableDiffusionXLPipeline decodes."""
    diffusers.AutoencoderKL(block_out_channels=(8, 8, 16), scaling_factor=0.5, **PICTURES, **changes).save_pretrained(
        tmp_path
    )
    vae = DiffusersVae(str(tmp_path))
    assert (vae.latents_mean, vae.latents_std) == (mean, std)


@pytest.mark.parametrize("name", REFUSED)
def test_a_class_that_is_not_encoded_with_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name}))
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert DiffusersVae.describe(str(tmp_path)).problem == f"its class {name} is not encoded with: {REFUSED[name]}"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"scaling_factor": 0}, "scaling_factor 0, which is no positive number"),
        ({"scaling_factor": float("nan")}, "scaling_factor nan, which is no positive number"),
        ({"scaling_factor": -0.2}, "scaling_factor -0.2"),
        ({"_class_name": "AutoencoderKLHunyuanImage", "latent_channels": 4}, "scaling_factor None"),
        ({"latents_mean": MEAN, "latents_std": [1, 2, 0, 1]}, "not positive"),
        ({"latents_mean": MEAN[:3], "latents_std": STD}, "3 latents_mean and 4 latents_std for latents of 4 channels"),
        (
            {"_class_name": "AutoencoderKLCosmos", "latents_mean": [0.0] * 256, "latents_std": [1.0] * 256},
            "differ between the frames",
        ),
        ({"_class_name": "SomethingNew"}, "its class SomethingNew is none of AutoencoderKL, "),
    ],
)
def test_a_config_without_sense_is_refused(config: dict[str, Any], problem: str) -> None:
    assert problem in str(problem_of(config))


def test_a_scaling_without_sense_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    diffusers.AutoencoderKL(block_out_channels=(8, 8, 16), scaling_factor=0.0, **PICTURES).save_pretrained(tmp_path)
    assert "no positive number" in str(DiffusersVae.describe(str(tmp_path)).problem)
    with pytest.raises(CurationError, match="no positive number"):
        DiffusersVae(str(tmp_path))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_both_ranks_are_lowered(tmp_path: Path, name: str) -> None:
    """Video VAEs have weights for pictures beside those for clips."""
    torch.manual_seed(0)
    getattr(diffusers, name)(**TINY[name]).save_pretrained(tmp_path)
    vae = DiffusersVae(str(tmp_path))
    vae.lower(torch.bfloat16)
    weights = list(vae.model.parameters())
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    assert all(w.is_contiguous(memory_format=layouts[w.ndim]) for w in weights if w.ndim in layouts)
