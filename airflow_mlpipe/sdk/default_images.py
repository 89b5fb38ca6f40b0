"""v1's names for the image that an environment has without saying one."""

from __future__ import annotations

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
"""Stands for the image of the compute target. The name is v1's last one, for Dockerfiles that are built on it."""

DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
"""Likewise."""


def own_image(image: str | None) -> str | None:
    """Return the image that an environment asks for itself; None if it takes its compute target's."""
    return None if image in (None, "", DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE) else image
