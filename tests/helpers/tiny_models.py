"""Production architectures at tiny random sizes, saved and loaded as real weights are."""

import json
from pathlib import Path

V2 = {"layers.0": (1024, 24), "layers.2": (128, 1024), "layers.4": (64, 128), "layers.6": (16, 64), "layers.7": (1, 16)}
"""Shapes of the layers of LAION's second aesthetic head, on a tower of 24 features."""
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def clip(folder: Path) -> str:
    """A CLIP of both towers; returns the argument for open_clip: `CONFIG.json:WEIGHTS.safetensors`."""
    from curation.models.patch_torchvision import patch_torchvision

    patch_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = folder / "tiny-clip.json"
    config.write_text(json.dumps(CLIP))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-clip").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "clip.safetensors")
    return f"{config}:{folder / 'clip.safetensors'}"


def aesthetic_head(folder: Path) -> Path:
    """A head of LAION's second form for the CLIP above."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(shape, generator=generator) / shape[1] for name, shape in V2.items()}
    tensors |= {f"{name}.bias": torch.randn(shape[0], generator=generator) for name, shape in V2.items()}
    save_file(tensors, folder / "v2.safetensors")
    return folder / "v2.safetensors"


def picture_vae(folder: Path) -> Path:
    """SDXL's autoencoder: eight pixels to a latent, four channels. Its scaling fits the latents that it gives."""
    from curation.models.patch_torchvision import patch_torchvision

    patch_torchvision()
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    blocks = ["DownEncoderBlock2D"] * 4
    AutoencoderKL(
        block_out_channels=[8, 8, 16, 16],
        down_block_types=blocks,
        up_block_types=["UpDecoderBlock2D"] * 4,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=4.0,
    ).save_pretrained(folder / "sdxl-vae")
    return folder / "sdxl-vae"


def clip_vae(folder: Path) -> Path:
    """Wan's autoencoder: eight pixels and four frames to a latent, pictures too."""
    from curation.models.patch_torchvision import patch_torchvision

    patch_torchvision()
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[0.3] * 4
    ).save_pretrained(folder / "wan-vae")
    return folder / "wan-vae"
