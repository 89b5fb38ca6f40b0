"""Whether this machine can mount, and what is mounted."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from airflow_mlpipe.storage.mount import CannotMountError, RemoteMount
from airflow_mlpipe.storage.mount_points import mounts_below


@cache
def missing() -> str | None:
    """Return why nothing can be mounted here, found out by a mount of nothing; or None."""
    with tempfile.TemporaryDirectory(prefix="mlpipe-tests-mount-") as folder:
        try:
            RemoteMount([], Path(folder, "point")).close()
        except CannotMountError as reason:
            return reason.message
    return None


def mounted(folder: Path) -> list[Path]:
    """Return the mount points at or below a folder."""
    return mounts_below(folder)
