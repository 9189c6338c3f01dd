"""Latent shards: writing, reading, checking. Knows tar and Parquet layouts, and nothing of the engine."""
