"""Building an environment by name, and following it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_mlpipe.execution.provision import Environments
    from airflow_mlpipe.execution.venv_garbage import BuiltEnvironment
    from airflow_mlpipe.sdk.workspace import Workspace


class EnvironmentBuild:
    """A build that goes on in the background; v1's ImageBuildDetails.

    Attributes:
        environment_name: name of the environment.
        environment_version: its version, or None if it was never registered.
        lock: the packages that were chosen, once that is known; None for an environment that asks for nothing.
    """

    def __init__(self, spec: EnvironmentSpec, environments: Environments) -> None:
        """Begin to build.

        Args:
            spec: the environment.
            environments: of the workspace.
        """
        self.environment_name = spec.name
        self.environment_version = spec.version
        self.lock: EnvironmentLock | None = None
        self._spec = spec
        self._environments = environments
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._status = "Running"
        self._error: BaseException | None = None
        # Not a daemon: a script that only calls build() still gets its environment.
        self._thread = threading.Thread(target=self._run, name=f"build of {spec.name}")
        self._thread.start()

    @property
    def status(self) -> str:
        """``Running``, ``Succeeded`` or ``Failed``."""
        return self._status

    @property
    def log(self) -> str:
        """What was printed so far."""
        return "".join(f"{line}\n" for line in self._lines)

    def wait_for_completion(self, show_output: bool = True) -> EnvironmentBuild:
        """Wait for the end.

        Args:
            show_output: print progress while it goes on.

        Raises:
            ParameterError: if a package or an option is not allowed.
            EnvironmentBuildError: if its packages cannot be resolved or installed.
        """
        for line in self._follow():
            if show_output:
                print(line, flush=True)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self

    def _follow(self) -> Iterator[str]:
        """Yield each line of progress, until the end."""
        shown = 0
        while True:
            with self._changed:
                while len(self._lines) == shown and self._status == "Running":
                    self._changed.wait()
                lines = self._lines[shown:]
            if not lines:
                return
            shown += len(lines)
            yield from lines

    def _say(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def _run(self) -> None:
        status = "Failed"
        try:
            self._build()
            status = "Succeeded"
        except MlpipeError as error:
            self._error = error
        except BaseException as error:
            self._error = error
            print(f"the build of environment '{self.environment_name}' failed: {error!r}", file=sys.stderr)
        finally:
            with self._changed:
                self._status = status
                self._changed.notify_all()

    def _build(self) -> None:
        self.lock = self._environments.locks.of(self._spec, renew=True, say=self._say)
        if self.lock is None:
            self._say(
                f"environment '{self.environment_name}' asks for nothing: its steps run on an interpreter as it is"
            )
            return
        if not self._environments.settings.build:
            self._say("the workspace's setting 'environments' is 'current': its steps run on the interpreter as it is")
        venv = self._environments.venvs.provide(self.lock, self.environment_name, say=self._say)
        self._say(f"environment '{self.environment_name}' is {'built' if venv.built else 'there'}: {venv.folder}")
        venv.close()


def built_environments(workspace: Workspace) -> list[BuiltEnvironment]:
    """Return the built environments of this user, what was used last first."""
    from airflow_mlpipe.execution.venv_garbage import built_environments
    from airflow_mlpipe.sdk.submit import environments_of

    return built_environments(environments_of(workspace).venvs.root)


def collect_environments(
    workspace: Workspace, unused_for: timedelta, *, delete: bool = False
) -> tuple[list[BuiltEnvironment], list[BuiltEnvironment]]:
    """Find the built environments of this user that no step has used for so long and, with `delete`, remove them.

    Returns:
        those that were found or removed, and those that stay.
    """
    from airflow_mlpipe.catalog.part import utc_now
    from airflow_mlpipe.execution.venv_garbage import collect_environments
    from airflow_mlpipe.sdk.submit import environments_of

    root = environments_of(workspace).venvs.root
    return collect_environments(root, unused_for, delete=delete, now=utc_now())
