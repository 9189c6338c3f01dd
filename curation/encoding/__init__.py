"""Kept records to buckets to latent shards."""
