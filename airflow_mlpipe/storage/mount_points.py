"""The mounts of this package on this machine: found in the kernel's list, and taken away."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

from airflow_mlpipe.errors import StorageError

FILE_SYSTEM = "mlpipe"
"""What the kernel calls these file systems: ``fuse.mlpipe``."""

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_MNT_DETACH = 2


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points at or below a folder, the deepest first; also those whose process is dead."""
    try:
        lines = _MOUNTS.read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:
        # Nothing of the kind can be mounted there.
        return []
    ours = [line for line in lines if f" fuse.{FILE_SYSTEM} " in line]
    if not ours:
        return []
    real = os.path.realpath(folder)
    points = [_ESCAPED.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4]) for line in ours]
    return [Path(point) for point in sorted(points, reverse=True) if point == real or point.startswith(f"{real}/")]


def release_mounts(folder: Path) -> None:
    """Take away every mount at or below a folder, before something removes the folder.

    What lies in a datastore is never touched by it. A process that still reads there gets errors.

    Raises:
        StorageError: if one stays.
    """
    for point in mounts_below(folder):
        unmount(point)
    left = mounts_below(folder)
    if left:
        raise StorageError(f"'{left[0]}' is a mount that cannot be taken away; unmount it: fusermount3 -u '{left[0]}'")


def release_dead(point: Path) -> None:
    """Take a mount away whose process was killed, so that its place can be used again; a living one stays."""
    if point.resolve() in mounts_below(point):
        try:
            point.stat()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                unmount(point.resolve())


def unmount(point: Path) -> None:
    """Take a mount of this package away at once, also if something in it is open; anything else is left alone."""
    if point not in mounts_below(point):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    # Root may; everybody else needs the setuid program.
    if libc.umount2(os.fsencode(point), _MNT_DETACH) == 0:
        return
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is not None:
        command = [program, "-u", "-z", "-q", str(point)]
        null = subprocess.DEVNULL
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False)
