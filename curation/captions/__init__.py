"""Captions as text: their words, what marks them as no description, and one value for each of a record's captions."""
