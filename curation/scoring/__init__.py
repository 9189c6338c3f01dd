"""Scores: one chunk of the source through its stages into one committed file."""
