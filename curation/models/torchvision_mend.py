"""The earlier name of `curation.models.patch_torchvision`, which scripts outside this repository import."""

from curation.models.patch_torchvision import patch_torchvision as mend

__all__ = ["mend"]
