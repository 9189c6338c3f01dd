"""Videos: probed, cut into shots and clips, sampled and standardized, always streaming, always in the child process."""
