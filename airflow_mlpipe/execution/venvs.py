"""Built environments: a folder each, shared by all workspaces of a user, built once and looked at before each use.

An environment is built into a folder of a name that nobody had yet, and counts from the moment its record - named by
what is in it - points to that folder. So a build that was killed leaves only a folder without a record, a damaged
environment is built anew beside the old one, and whoever still runs on the old one is not disturbed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution.conda import find_conda
from airflow_mlpipe.execution.core import PACKAGE, core_beside, core_digest, own_minor
from airflow_mlpipe.execution.interpreters import base_interpreter, interpreter
from airflow_mlpipe.execution.turn import take_turn
from airflow_mlpipe.execution.uv import Say, find_uv, never, run_tool, silent
from airflow_mlpipe.model.digest import JsonValue, digest_json, hex_part
from airflow_mlpipe.model.environment import EnvironmentLock
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.home import home

FORMAT = 1
"""Version of how environments are laid out. Raising it builds every one anew."""

USE = "in-use.lock"
"""File of an environment that is locked, shared, as long as a step runs on it."""

_SHORT = 24


class Venv:
    """A built environment. As long as this object is there and not closed, nobody removes it.

    Attributes:
        folder: where it lies.
        python: its interpreter.
        built: whether it was built for this answer.
    """

    def __init__(self, folder: Path, use: int, *, built: bool = False) -> None:
        """Take an environment into use.

        Args:
            folder: where it lies.
            use: descriptor that holds a shared lock on its file of uses; closed with this object.
            built: whether it was built for this answer.
        """
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.built = built
        self._use: int | None = use

    def close(self) -> None:
        """Let it be removed."""
        if self._use is not None:
            os.close(self._use)
            self._use = None

    def __del__(self) -> None:
        self.close()


class Venvs:
    """The built environments of a user.

    Args:
        root: folder that holds them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def provide(
        self,
        lock: EnvironmentLock,
        name: str,
        *,
        say: Say = silent,
        stop: Callable[[], str | None] = never,
        anew: bool = False,
    ) -> Venv:
        """Return the environment of a lock, built if it is not there or is damaged.

        Of several processes that ask at once one builds, the others wait for it.

        Args:
            lock: what is in it.
            name: what it is called, for messages.
            say: given each line of progress.
            stop: asked now and then; an answer other than None is the reason to end.
            anew: build it even if it is there.

        Raises:
            EnvironmentBuildError: if it cannot be built.
            StepStoppedError: if it was ended on request.
            StorageError: if its folder cannot be written.
        """
        key = self.key(lock)
        found = None if anew else self._found(key)
        if found is not None:
            return found
        with ExitStack() as stack:
            take_turn(stack, self.root / f"{key}.lock", name, say=say, stop=stop)
            found = None if anew else self._found(key)
            if found is None:
                found = self._build(key, lock, name, say, stop)
        return found

    def key(self, lock: EnvironmentLock) -> str:
        """Return the name of a lock's environment in this folder."""
        ours = lock.python == own_minor() and not lock.conda
        made_of: JsonValue = {
            "format": FORMAT,
            "python": [lock.python, base_interpreter() if ours else ""],
            "packages": [list(lock.packages), list(lock.conda)],
            "core": [str(PACKAGE), list(core_beside(lock))],
        }
        return hex_part(digest_json("venv", made_of))[:_SHORT]

    def is_ready(self, lock: EnvironmentLock) -> bool:
        """Whether a lock's environment is there and whole."""
        found = self._found(self.key(lock))
        if found is not None:
            found.close()
        return found is not None

    def _found(self, key: str) -> Venv | None:
        """Return an environment that is there and as it was built."""
        try:
            record = json.loads(self._record(key).read_bytes())
            folder = self.root / record["folder"]
            # Not waited for: who has it alone is removing the environment.
            venv = Venv(folder, take_use(folder, fcntl.LOCK_SH | fcntl.LOCK_NB))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        try:
            if _is_whole(_state(folder), record["state"]):
                with suppress(OSError):
                    # When it was used last.
                    os.utime(self._record(key))
                return venv
        except (OSError, KeyError):
            pass
        venv.close()
        return None

    def _build(self, key: str, lock: EnvironmentLock, name: str, say: Say, stop: Callable[[], str | None]) -> Venv:
        if self._record(key).exists():
            say(f"environment '{name}' is built anew: what is there is not as it was built")
        folder = self.root / f"{key}.{uuid4().hex[:8]}"
        try:
            install(lock, folder, name, say=say, stop=stop)
            with system_errors("write", folder):
                _link_core(folder)
                (folder / USE).touch()
                venv = Venv(folder, take_use(folder, fcntl.LOCK_SH), built=True)
                self._publish(
                    key, {"folder": folder.name, "name": name, "python": lock.python, "state": _state(folder)}
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return venv

    def _publish(self, key: str, record: JsonValue) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.root, prefix=f"{key}.tmp-", delete=False) as draft:
            json.dump(record, draft)
        Path(draft.name).replace(self._record(key))

    def _record(self, key: str) -> Path:
        return self.root / f"{key}.json"


def take_use(folder: Path, how: int) -> int:
    """Lock an environment's file of uses and return its descriptor.

    Raises:
        OSError: if there is none, or somebody else has it and `how` says not to wait.
    """
    descriptor = os.open(folder / USE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def environments_folder(settings_folder: str | None = None) -> Path:
    """Return where built environments are kept: where the setting ``environments_dir`` says, else the user's folder."""
    return Path(settings_folder).expanduser() if settings_folder else home() / "environments"


def install(
    lock: EnvironmentLock,
    folder: Path,
    name: str,
    *,
    say: Say = silent,
    stop: Callable[[], str | None] = never,
) -> None:
    """Make an environment of a lock's packages and of what this package needs in a folder that is not there yet.

    Raises:
        EnvironmentBuildError: if something cannot be installed.
        StepStoppedError: if it was ended on request.
    """
    where = f"environment '{name}'"
    uv = find_uv()
    failure = f"{where} cannot be built"
    say(f"building {where}: {len(lock.packages) + len(lock.conda)} packages")
    if lock.conda:
        conda = find_conda()
        if conda is None:
            raise EnvironmentBuildError(
                f"{failure}: it was resolved by conda, which this machine does not have; install micromamba, or choose "
                "its packages anew here: mlpipe environments build"
            )
        conda.install(lock.conda, lock.channels, folder, where, say=say, stop=stop)
    else:
        python = interpreter(lock.python, where)
        run_tool([uv, "venv", "--no-project", "--python", python, str(folder)], failure, say=silent, stop=stop)
    with tempfile.TemporaryDirectory(prefix="mlpipe-") as given:
        wanted = Path(given, "requirements.txt")
        wanted.write_text("".join(f"{line}\n" for line in (*lock.packages, *core_beside(lock))), encoding="utf-8")
        argv = [uv, "pip", "install", "--python", str(folder / "bin" / "python"), *lock.index_options]
        argv += ["--requirements", str(wanted)]
        if lock.core_of == core_digest():
            # Everything was chosen: nothing is left to resolve, and if all of it was here before, nothing to ask for.
            argv.append("--no-deps")
            try:
                run_tool([*argv, "--offline"], failure, stop=stop)
                return
            except EnvironmentBuildError:
                pass
        run_tool(argv, failure, say=say, stop=stop)


def site_packages(folder: Path) -> Path:
    """Return where the packages of a built environment lie.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    for found in (folder / "lib").glob("python3.*/site-packages"):
        return found
    raise FileNotFoundError(f"{folder}/lib/python3.*/site-packages")


def _link_core(folder: Path) -> None:
    """Let the environment import this package from where it is, and nothing else that lies there."""
    link = site_packages(folder) / PACKAGE.name
    if not link.exists():
        link.symlink_to(PACKAGE)


def _state(folder: Path) -> dict[str, int]:
    """Return what tells a whole environment from a damaged or changed one; quick, for it is asked before each use.

    For each module or package of the environment its size, or how many files and folders are directly in it. Compiled
    files do not count, which come and go as modules are imported.
    """
    site = site_packages(folder)
    # Through its links: an interpreter that was uninstalled is none.
    (folder / "bin" / "python").stat()
    (site / PACKAGE.name / "__init__.py").stat()
    state = {}
    with os.scandir(site) as entries:
        for entry in entries:
            if entry.name != "__pycache__" and not entry.is_symlink():
                state[entry.name] = _children(entry.path) if entry.is_dir() else entry.stat().st_size
    return state


def _children(path: str) -> int:
    with os.scandir(path) as entries:
        return sum(entry.name != "__pycache__" for entry in entries)


def _is_whole(now: Mapping[str, int], built: Mapping[str, int]) -> bool:
    # Some packages keep files of their own making beside their modules; none ever removes one.
    return now.keys() == built.keys() and all(now[name] >= count for name, count in built.items())
