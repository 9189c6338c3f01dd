"""The scripts that made the weights in curation/models/weights/."""
