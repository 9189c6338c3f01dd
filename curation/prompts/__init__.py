"""Text that asks for a picture: how it is normalised, which words it may not hold, and how it is asked elsewhere."""
