"""Files of remote datastores at a path of this machine, read over the network only as somebody reads them.

A mount lives in a process of its own: a network that hangs, or a fault of libfuse, never hangs whoever asked for it. It
ends with this process, however that ends, because its input does.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.mount_points import release_mounts
from airflow_mlpipe.storage.mount_table import MountTable

if TYPE_CHECKING:
    from airflow_mlpipe.storage.remote import RemoteStore
    from airflow_mlpipe.storage.selection import DatasetFile

_log = logging.getLogger(__name__)

DEVICE = Path("/dev/fuse")

_START_S = 60.0
_END_S = 2.0
_LAST_LINES = 5
# It tells processes of a step from others; a mount ends by itself, and is no process that a step has left behind.
_MARK = "MLPIPE_CONTEXT"


class CannotMountError(StorageError):
    """There is no mount here, or not of these files; the message says why. They can be downloaded."""


class RemoteMount:
    """A mount, from the moment it is made until :meth:`close`.

    Args:
        files: of datasets; those of this machine are shown as links.
        point: an empty folder, made if need be.
        folders: names of empty folders in it.
        on_trouble: given a line each time that a read fails for another reason, in a thread; by default it is logged.

    Raises:
        CannotMountError: if this machine, or this user, cannot mount, or a datastore does not tell one version of a
            file from the next.
        StorageError: if a name is impossible here.
    """

    def __init__(
        self,
        files: Sequence[DatasetFile],
        point: Path,
        folders: Iterable[str] = (),
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        check_mountable(files)
        document = _document(files, point, folders)
        self._on_trouble = on_trouble or (lambda text: _log.warning("mount '%s': %s", point, text))
        self.point = point
        self.troubles: list[str] = []
        """Why reads have failed."""
        self._ready: SimpleQueue[str | None] = SimpleQueue()
        with system_errors("make", point):
            point.mkdir(parents=True, exist_ok=True)
        self._process = _start()
        self._listener = threading.Thread(target=self._listen, name="mlpipe-mount", daemon=True)
        self._listener.start()
        try:
            self._begin(document)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process that it lives in."""
        return int(self._process.pid)

    def close(self) -> None:
        """Take the mount away; the empty folder stays. A process that still reads there gets errors.

        Doing it twice is fine. What the system refuses is logged.
        """
        process = self._process
        if not process.stdin.closed:
            # Said, and not only left to the end of the pipe: a fork of this process may hold its other end.
            with suppress(OSError):
                process.stdin.write(b"\n")
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._listener.join(_END_S)
        try:
            release_mounts(self.point)
        except StorageError as error:
            _log.warning("%s", error.message)

    def _begin(self, document: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()
        try:
            reason = self._ready.get(timeout=_START_S)
        except Empty:
            reason = f"its process was not ready within {_START_S:g} s"
        if reason is not None:
            raise CannotMountError(reason)

    def _listen(self) -> None:
        """Hand on what the process says."""
        printed: deque[str] = deque(maxlen=_LAST_LINES)
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace").strip()
            message = _message(text)
            if message is None:
                printed.append(text)
            elif "ready" in message:
                self._ready.put(None)
            elif "refused" in message:
                # What libfuse prints tells more than the code it returns.
                self._ready.put("; ".join(printed) or str(message["refused"]))
            else:
                self.troubles.append(str(message["trouble"]))
                self._on_trouble(str(message["trouble"]))
        self._ready.put("; ".join(printed) or "its process ended at once")
        self._process.stdout.close()


def check_mountable(files: Iterable[DatasetFile]) -> None:
    """Look for reasons against a mount that cost next to nothing to find.

    Raises:
        CannotMountError: if there is one.
    """
    reason = why_no_mount()
    if reason is not None:
        raise CannotMountError(reason)
    for file in files:
        if file.remote is not None and file.remote[1].identity is None:
            store, remote = file.remote
            raise CannotMountError(
                f"datastore '{store.name}' does not tell one version of '{remote.path}' from the next; parts of two "
                "could be mixed"
            )


def why_no_mount() -> str | None:
    """Return why nothing can be mounted here, or None if it is worth a try. Costs a look at the device."""
    if sys.platform != "linux":
        return "mounts need Linux"
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {DEVICE}; a container needs --device {DEVICE} and the right to mount (--cap-add SYS_ADMIN)"
    except OSError as error:
        return f"{DEVICE} cannot be opened ({error.strerror}); allow it to this user, or to the container"
    if find_spec("mfusepy") is None:
        return "mfusepy is not installed; pip install 'airflow-mlpipe[mount]'"
    return None


def _document(files: Sequence[DatasetFile], point: Path, folders: Iterable[str]) -> dict[str, Any]:
    stores: dict[str, RemoteStore] = {}
    numbers: dict[str, int] = {}
    described: list[tuple[int, tuple[Any, ...]]] = []
    names: dict[str, int] = {}
    links: dict[str, str] = {}
    for file in files:
        if file.remote is None:
            links[file.name] = str(file.place)
            continue
        store, remote = file.remote
        stores[store.name] = store
        names[file.name] = len(described)
        described.append((numbers.setdefault(store.name, len(numbers)), astuple(remote)))
    folders = list(folders)
    # Here, where the message reaches whoever asked.
    MountTable(names, links, folders)
    return {
        "point": os.path.realpath(point),
        "stores": [stores[name].definition for name in numbers],
        "files": described,
        "names": names,
        "links": links,
        "folders": folders,
    }


def _start() -> Any:
    environment = {name: value for name, value in os.environ.items() if name != _MARK}
    with system_errors("start", sys.executable):
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "airflow_mlpipe.storage.mount_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            # A signal to the whole group of a task leaves it alive to take the mount away.
            start_new_session=True,
        )


def _message(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.keys() & {"ready", "refused", "trouble"} else None
