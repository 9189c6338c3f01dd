"""Measurements as ratios, both sides in one run on the same files. `python -m benchmarks` writes results.md."""
