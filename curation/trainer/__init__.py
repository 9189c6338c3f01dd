"""The bundled diffusion transformer: training, sampling, evaluation. Knows latent shards, nothing of the engine."""
