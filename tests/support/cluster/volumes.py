"""A pod's volumes, as folders of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import quantity, variables
from .pod import Pod
from .store import Object, Store


class MountError(Exception):
    """A volume cannot be mounted yet: the node tries again."""


class Volumes:
    """The volumes of all pods.

    A claim is a folder that lives as long as the cluster.
    """

    def __init__(self, store: Store, folder: Path, token: str) -> None:
        self._store, self._folder, self._token = store, folder, token

    def prepare(self, pod: Pod) -> dict[str, Path]:
        """Make a pod's volumes, and return their folders by name.

        Raises:
            MountError: if one cannot be made.
        """
        return {volume["name"]: self._prepare(pod, volume) for volume in pod.spec.get("volumes") or []}

    def release(self, pod: Pod) -> None:
        """Remove what `prepare` made."""
        for folder in sorted(self._home(pod).glob("*")):
            if folder.is_mount():
                subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(self._home(pod), ignore_errors=True)

    def message_file(self, pod: Pod, container: str, attempt: int) -> Path:
        """Make the file that a container may leave its last words in."""
        path = self._home(pod) / ".messages" / f"{container}-{attempt}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        return path

    def unbound(self, pod: Pod) -> str | None:
        """Return the reason why a pod's claims keep it from being scheduled, or None."""
        for volume in pod.spec.get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and self._store.find("persistentvolumeclaims", pod.namespace, claim) is None:
                return f'persistentvolumeclaim "{claim}" not found'
        return None

    def _home(self, pod: Pod) -> Path:
        return self._folder / "pods" / pod.uid

    def _prepare(self, pod: Pod, volume: Object) -> Path:
        folder = self._home(pod) / volume["name"]
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            folder = self._folder / "claims" / pod.namespace / volume["persistentVolumeClaim"]["claimName"]
        folder.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            _empty(folder, volume["emptyDir"] or {})
        try:
            for path, content in self._files(pod, volume):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except variables.ConfigError as missing:
            raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {missing}') from missing
        group = (pod.spec.get("securityContext") or {}).get("fsGroup")
        if group is not None:
            os.chown(folder, -1, group)
            folder.chmod(0o2777)
        elif "emptyDir" in volume or "persistentVolumeClaim" in volume:
            folder.chmod(0o777)
        return folder

    def _files(self, pod: Pod, volume: Object) -> Iterator[tuple[str, bytes]]:
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from self._files(pod, source)
        for kind in ("configMap", "secret"):
            if kind in volume:
                yield from self._keys(pod, kind, volume[kind])
        for item in (volume.get("downwardAPI") or {}).get("items") or []:
            yield item["path"], variables.field(pod, item["fieldRef"]["fieldPath"]).encode()
        if "serviceAccountToken" in volume:
            yield volume["serviceAccountToken"]["path"], self._token.encode()

    def _keys(self, pod: Pod, kind: str, source: Object) -> Iterator[tuple[str, bytes]]:
        name = source.get("name") or source.get("secretName")
        found = self._store.find(f"{kind.lower()}s", pod.namespace, name)
        if found is None:
            if not source.get("optional"):
                raise variables.ConfigError(f'{kind.lower()} "{name}" not found')
            return
        data = variables.data_of(found)
        for item in source.get("items") or [{"key": key, "path": key} for key in data]:
            if item["key"] not in data:
                raise variables.ConfigError(f"references non-existent {kind} key: {item['key']}")
            yield item["path"], data[item["key"]]


def _host_path(volume: Object) -> Path:
    path, kind = Path(volume["path"]), volume.get("type") or ""
    if kind.endswith("OrCreate") or not kind:
        path.mkdir(parents=True, exist_ok=True) if kind != "FileOrCreate" and not path.exists() else path.touch()
    elif not path.exists() or (kind == "Directory") != path.is_dir():
        raise MountError(f"hostPath type check failed: {path} is not a {kind.lower()}")
    return path


def _empty(folder: Path, volume: Object) -> None:
    if volume.get("medium") != "Memory" or folder.is_mount():
        return
    options = f"size={int(quantity.parse(volume['sizeLimit']))}" if volume.get("sizeLimit") else "size=50%"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MountError(f"tmpfs could not be mounted: {done.stderr.strip()}")
