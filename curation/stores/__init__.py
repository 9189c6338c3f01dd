"""Files and objects: atomic commits, places as URLs, one run a directory, guarded downloads."""
