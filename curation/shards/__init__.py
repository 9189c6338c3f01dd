"""Latent shards: writing, reading and checking them. Knows tar and Parquet layouts, and nothing of the engine."""
