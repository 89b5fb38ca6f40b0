"""The images that steps run in, as far as they are part of what a step is: content, not a name that may move on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from airflow_mlpipe.errors import MlpipeError, NotFoundError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.digest import JsonValue, digest_bytes
from airflow_mlpipe.model.step import StepSpec

_log = logging.getLogger(__name__)

Resolver = Callable[[ComputeSpec, str], str | None]
"""Gets a compute target and an image's name, returns what its content is called for good; None if nobody can tell."""


def nobody(compute: ComputeSpec, image: str) -> str | None:
    """Tell nothing of any image: there is no engine here that could be asked."""
    return None


class StepImages:
    """Tells which image a step runs in. Each different image is asked for once, until :meth:`forget`.

    Args:
        compute_of: returns the compute target of a step as it really runs, or None for this machine.
        resolve: asks whoever has the images.
    """

    def __init__(self, compute_of: Callable[[StepSpec], ComputeSpec | None], resolve: Resolver = nobody) -> None:
        self._compute_of = compute_of
        self._resolve = resolve
        self._known: dict[tuple[str, str], str | None] = {}
        self._told: set[str] = set()

    def __call__(self, step: StepSpec) -> Mapping[str, JsonValue] | None:
        """Return the identity of the image that the environment of `step` names, or None if it runs in none.

        The default image of a compute target does not count, as nothing of a target does.
        """
        spec = step.environment
        if step.compute is None or not (spec.docker_image or spec.dockerfile):
            return None
        try:
            compute = self._compute_of(step)
        except (NotFoundError, MlpipeError):
            # The step fails for it, and says so.
            return None
        if compute is None or compute.kind not in ("docker", "kubernetes"):
            return None
        if spec.dockerfile:
            return {"dockerfile": digest_bytes(spec.dockerfile.encode())}
        return {"image": self._content(compute, str(spec.image))}

    def forget(self) -> None:
        """Ask again for every image: its tag may mean something else by now."""
        self._known.clear()

    def _content(self, compute: ComputeSpec, image: str) -> str:
        if "@sha256:" in image:
            return image.partition("@")[2]
        key = (compute.name, image)
        if key not in self._known:
            self._known[key] = self._resolve(compute, image)
        found = self._known[key]
        if found is None and image not in self._told:
            self._told.add(image)
            _log.warning(
                "image '%s' of compute target '%s' is known by its tag only, and nobody here can tell what that means: "
                "reuse cannot see it change; name it by its digest, NAME@sha256:...",
                image,
                compute.name,
            )
        return found or image
