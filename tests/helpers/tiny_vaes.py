"""Configurations of diffusers' autoencoder classes at a tiny size."""

from typing import Any

MEAN, STD = [0.1, -0.2, 0.3, 0.4], [1.5, 2.0, 0.5, 1.0]
STATISTICS = {"latents_mean": MEAN, "latents_std": STD}
DOWN, UP = ["DownEncoderBlock2D"] * 3, ["UpDecoderBlock2D"] * 3
PICTURES = {"down_block_types": DOWN, "up_block_types": UP, "norm_num_groups": 4, "sample_size": 32}
BLOCKS = {"layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
LTX = {
    "latent_channels": 4,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "scaling_factor": 2.0,
}
TINY: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"block_out_channels": (8, 8, 16), "scaling_factor": 0.5, **PICTURES, **STATISTICS},
    "AsymmetricAutoencoderKL": {
        "down_block_types": DOWN,
        "down_block_out_channels": (8, 8, 16),
        "up_block_types": UP,
        "up_block_out_channels": (8, 8, 16),
        "norm_num_groups": 4,
        "scaling_factor": 0.3,
    },
    "ConsistencyDecoderVAE": {
        "encoder_block_out_channels": (8, 16),
        "encoder_down_block_types": DOWN[:2],
        "encoder_norm_num_groups": 4,
        "decoder_block_out_channels": (8, 16),
        "decoder_down_block_types": ["ResnetDownsampleBlock2D"] * 2,
        "decoder_up_block_types": ["ResnetUpsampleBlock2D"] * 2,
        "decoder_layers_per_block": 1,
        "decoder_norm_num_groups": 4,
        "decoder_num_train_timesteps": 1024,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "num_encoder_blocks": (1, 1, 1, 1),
        "num_decoder_blocks": (1, 1, 1, 1),
        "scaling_factor": 0.7,
        "shift_factor": 0.2,
    },
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_out_channels": (8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8),
        "encoder_layers_per_block": (1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1),
        "encoder_qkv_multiscales": ((), (), (5,)),
        "decoder_qkv_multiscales": ((), (), (5,)),
        "scaling_factor": 0.41407,
    },
    "AutoencoderKLFlux2": {"block_out_channels": (8, 8, 16), "latent_channels": 2, **PICTURES},
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 4,
        "sample_size": 32,
        "scaling_factor": 0.75289,
    },
    "AutoencoderKLHunyuanImageRefiner": {
        "latent_channels": 4,
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 8,
    },
    "AutoencoderKLQwenImage": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **STATISTICS},
    "AutoencoderKLQwenImage21": {
        "base_dim": 8,
        "decoder_base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        **STATISTICS,
    },
    "AutoencoderKLTemporalDecoder": {
        "down_block_types": DOWN,
        "block_out_channels": (32, 32, 32),
        "scaling_factor": 0.18215,
    },
    "AutoencoderKLWan": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **STATISTICS},
    "AutoencoderKLLTXVideo": LTX,
    "AutoencoderKLLTX2Video": {
        **LTX,
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    "AutoencoderKLCogVideoX": {"block_out_channels": (8, 8, 8, 8), "scaling_factor": 0.7, **BLOCKS},
    "AutoencoderKLHunyuanVideo": {"block_out_channels": (8, 8, 8, 8), "scaling_factor": 0.476986, **BLOCKS},
    "AutoencoderKLHunyuanVideo15": {
        "latent_channels": 4,
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 8,
    },
    "AutoencoderKLMochi": {
        "latent_channels": 12,
        "encoder_block_out_channels": (32, 32, 32, 32),
        "decoder_block_out_channels": (32, 32, 32, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
        "scaling_factor": 1.25,
        "latents_mean": MEAN * 3,
        "latents_std": STD * 3,
    },
    "AutoencoderKLMagvit": {"block_out_channels": [8, 8, 8, 8], **BLOCKS},
    "AutoencoderKLCosmos": {
        "latent_channels": 4,
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "attention_resolutions": (8,),
        "resolution": 64,
        "num_layers": 1,
        "scaling_factor": 3.0,
        **STATISTICS,
    },
    "Kandinsky6SRVAE": {
        "latent_channels": 4,
        "encoder_block_out_channels": (8, 16, 16, 16),
        "decoder_block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 1,
    },
}

CLASSES = ("AutoencoderKLWan", "AutoencoderKLCogVideoX", "AutoencoderKLHunyuanVideo", "AutoencoderKLLTXVideo")
FACTORS = {"AutoencoderKLLTXVideo": (32, 8)}
STEPS = {"AutoencoderKLWan": 4, "AutoencoderKLHunyuanVideo": 4}
"""CogVideoX decodes odd numbers of latent frames only: 1 + 8k frames."""
