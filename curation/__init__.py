"""From raw images, videos and captions to training-ready latent shards, every record accounted for."""

__version__ = "0.1.0"
