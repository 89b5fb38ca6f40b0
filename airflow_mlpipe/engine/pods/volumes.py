"""The workspace's folder as a volume of pods, for datastores that are folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kubernetes.client import models as k8s

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.pod.order import PodOrder
from airflow_mlpipe.execution.pod.places import wanted_elsewhere
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.storage.output_parts import part_of

_NAME = "mlpipe-workspace"


@dataclass(frozen=True, slots=True)
class WorkspaceVolume:
    """The workspace's folder in pods, at the path that it has for the engine.

    Attributes:
        source: ``pvc:NAME`` or ``host:/PATH``: a volume that holds what is in the folder.
        folder: the absolute path.
    """

    source: str
    folder: str

    @property
    def volume(self) -> k8s.V1Volume:
        """The volume.

        Raises:
            ConfigError: if the setting has neither of the two forms.
        """
        kind, _, what = self.source.partition(":")
        if kind == "pvc" and what:
            claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=what)
            return k8s.V1Volume(name=_NAME, persistent_volume_claim=claim)
        if kind == "host" and what.startswith("/"):
            return k8s.V1Volume(name=_NAME, host_path=k8s.V1HostPathVolumeSource(path=what, type="Directory"))
        raise ConfigError(f"workspace_volume is '{self.source}'; allowed are 'pvc:NAME' and 'host:/PATH'")

    def whole(self) -> k8s.V1VolumeMount:
        """Mount it as the engine sees it."""
        return k8s.V1VolumeMount(name=_NAME, mount_path=self.folder)

    def part(self, path: str, *, at: str | None = None, writable: bool = False) -> k8s.V1VolumeMount:
        """Mount one path in it, at its own place unless told otherwise."""
        inside = str(PurePosixPath(path).relative_to(self.folder))
        return k8s.V1VolumeMount(name=_NAME, mount_path=at or path, sub_path=inside, read_only=not writable)

    def parts(self, order: PodOrder, node: int = 0) -> list[k8s.V1VolumeMount]:
        """Mount what a step's own process needs: its inputs, to be read, and the places of its outputs.

        Args:
            order: what the pod is to do.
            node: which of its nodes the pod is: of several each has a folder of its own in the place of the outputs.
        """
        writable: dict[str, bool] = {}
        own: dict[str, str] = {}
        for port in order.step.inputs:
            path = order.laid.get(port.name)
            if path is not None and self._has(path) and wanted_elsewhere(port) is None:
                # A DataReference may be written to.
                writable[path] = isinstance(port.bound, DatastorePath)
        for path in order.shown:
            if self._has(path):
                writable.setdefault(path, False)
        for output in order.context.outputs.values():
            if self._has(output.path):
                place = Path(output.path)
                writable[str(place.parent)] = True
                if order.nodes > 1:
                    own[str(place.parent)] = str(part_of(place, node).parent)
        # The outer ones first: a mount hides what is mounted below it.
        return [self.part(own.get(path, path), at=path, writable=writable[path]) for path in sorted(writable)]

    def _has(self, path: str) -> bool:
        return PurePosixPath(path).is_relative_to(self.folder)
