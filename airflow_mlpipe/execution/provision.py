"""The environments of a workspace: what each was resolved to, and the built one that its steps run on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ConfigError, EnvironmentBuildError
from airflow_mlpipe.execution.core import PACKAGE
from airflow_mlpipe.execution.resolution import Locks
from airflow_mlpipe.execution.software import Software, this_interpreter
from airflow_mlpipe.execution.uv import Say, never, silent
from airflow_mlpipe.execution.venvs import Venv, Venvs, environments_folder
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec
from airflow_mlpipe.storage.documents import Documents

MODES = ("build", "current")


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """What a workspace's settings say about environments.

    Attributes:
        build: whether environments are built (setting ``environments``: ``build``, the default), or all steps run on
            the current interpreter as it is (``current``).
        folder: where they are built (``environments_dir``), by default in the user's folder.
        indexes: URLs of package indexes that environments may name (``package_indexes``).
    """

    build: bool = True
    folder: str | None = None
    indexes: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> EnvironmentSettings:
        """Read them.

        Raises:
            ConfigError: if one is not allowed.
        """
        mode = settings.get("environments", "build")
        if mode not in MODES:
            raise ConfigError(f"setting 'environments': {mode!r} is not allowed; it is one of {', '.join(MODES)}")
        indexes = settings.get("package_indexes", [])
        if not isinstance(indexes, list) or not all(isinstance(url, str) for url in indexes):
            raise ConfigError(f"setting 'package_indexes': {indexes!r} is not a list of URLs")
        return cls(mode == "build", settings.get("environments_dir"), tuple(indexes))


class Environments:
    """Answers for one workspace; what it has once answered stays so, as the keys of its steps do.

    Args:
        store: the default datastore, which keeps what environments were resolved to.
        settings: of the workspace.
    """

    def __init__(self, store: Documents, settings: EnvironmentSettings) -> None:
        self.settings = settings
        self.locks = Locks(store, settings.indexes)
        self.venvs = Venvs(environments_folder(settings.folder))

    def lock(self, spec: EnvironmentSpec, *, say: Say = silent) -> EnvironmentLock | None:
        """Return what an environment was resolved to, and resolve it if it was not yet.

        Returns:
            None if its steps run on an interpreter as it is: it asks for nothing, its user manages it, or the
            workspace builds none.

        Raises:
            ParameterError: if a package or an option is not allowed.
            EnvironmentBuildError: if its packages cannot be resolved.
        """
        return self.locks.of(spec, say=say) if self.settings.build else None

    def venv(self, spec: EnvironmentSpec, *, say: Say = silent, stop: Callable[[], str | None] = never) -> Venv | None:
        """Return the built environment, and build it if it is not there; None as in :meth:`lock`.

        Raises:
            ParameterError, EnvironmentBuildError: as for :meth:`lock`, and if it cannot be built.
            StepStoppedError: if it was ended on request.
        """
        lock = self.lock(spec, say=say)
        return None if lock is None else self.venvs.provide(lock, spec.name, say=say, stop=stop)


def software_of(spec: EnvironmentSpec, venv: Venv | None) -> Software:
    """Return what a process of this machine runs on.

    Args:
        spec: the step's environment.
        venv: the built environment, or None for an interpreter as it is.

    Raises:
        EnvironmentBuildError: if its user manages an interpreter that is not there.
    """
    if venv is not None:
        folder = venv.folder
        # What people look at to find the environment they are in.
        prefix = "CONDA_PREFIX" if (folder / "conda-meta").is_dir() else "VIRTUAL_ENV"
        return Software(
            python=str(venv.python),
            first_on_path=str(venv.python.parent),
            parent=os.environ,
            variables={prefix: str(folder), "PYTHONNOUSERSITE": "1"},
        )
    path = managed_interpreter(spec)
    if path is None:
        return this_interpreter()
    own = PACKAGE.parent
    return Software(
        python=path,
        first_on_path=str(Path(path).parent),
        parent=os.environ,
        # Packages of our interpreter are not those of another one.
        import_root=None if own.name in ("site-packages", "dist-packages") else str(own),
    )


def managed_interpreter(spec: EnvironmentSpec) -> str | None:
    """Return the interpreter that an environment's user manages, or None for the current one.

    Raises:
        EnvironmentBuildError: if it is not there.
    """
    if not spec.user_managed or spec.interpreter_path is None:
        return None
    path = shutil.which(os.path.expanduser(spec.interpreter_path))  # noqa: PTH111 - the path of a link must stay one
    if path is None:
        raise EnvironmentBuildError(
            f"environment '{spec.name}': interpreter '{spec.interpreter_path}' is not a program of this machine; give "
            "the path of a Python, or leave interpreter_path out for the current one"
        )
    return path
