"""Which engine runs what is submitted: a live server if there is one, else the embedded engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.engine.embedded import EmbeddedEngine
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.server_settings import ServerHome
from airflow_mlpipe.errors import PipelineError

if TYPE_CHECKING:
    from airflow_mlpipe.engine.client import ServerEngine
    from airflow_mlpipe.model.parameter import ParameterValue
    from airflow_mlpipe.model.spec import PipelineSpec


class WorkspaceEngine:
    """The engine of a workspace that names none.

    A server that the workspace's settings name, or that was started by ``mlpipe up`` and not stopped, gets what is
    submitted; if it does not answer, that is an error. What a run began with carries it to its end.
    """

    def __init__(self, workspace_dir: Path) -> None:
        """Serve the workspace whose ``.mlpipe`` folder is `workspace_dir`.

        Raises:
            ModuleNotFoundError: if the engine needs Airflow and it is not installed.
        """
        self._folder = Path(workspace_dir).resolve()
        self._home = ServerHome(self._folder)
        self._room = Room(self._folder)
        if self.name == "embedded":
            # Found out here: a run must not be stored that nobody can carry.
            self._embedded  # noqa: B018 - made for its error

    @property
    def name(self) -> str:
        """``server`` or ``embedded``: what runs what is submitted now."""
        from airflow_mlpipe.engine.client import remote_url
        from airflow_mlpipe.engine.server_state import ServerState

        # Read anew: a notebook's workspace lives long.
        remote = remote_url(Room(self._folder))
        return "server" if remote or ServerState.of(self._home) is not None else "embedded"

    def check(self, spec: PipelineSpec, parameters: Mapping[str, ParameterValue]) -> None:
        """Refuse operators that cannot be made and pools that are not there; say what an embedded run passes over.

        A client without Airflow leaves the operators to the server.

        Raises:
            UsageError: if something is wrong; the message names step and argument.
        """
        from airflow_mlpipe.engine.task_settings import check_callbacks, tell_ignored

        if find_spec("airflow") is not None and any(step.operator or step.airflow for step in spec.steps):
            from airflow_mlpipe.engine.operator_factory import check_operators

            check_operators(spec, parameters)
            check_callbacks(spec)
        embedded = self.name == "embedded"
        known = Room(self._folder).pools
        for step in spec.steps:
            pool = step.airflow.get("pool")
            if pool is not None and pool not in known and (embedded or not self._server.has_pool(pool)):
                raise PipelineError(
                    f"step '{step.name}': airflow has the pool '{pool}', which is not there, so that it would wait for "
                    f'ever; say how many slots it has in the settings of config.json: "pools": {{"{pool}": 4}}'
                )
        if embedded:
            tell_ignored(spec)

    def submit(self, run_id: str) -> None:
        """Start a run by the engine that its row names."""
        self._of(run_id).submit(run_id)

    def cancel(self, run_id: str) -> None:
        """Act on a cancellation that is in the catalog already."""
        self._of(run_id).cancel(run_id)

    def is_alive(self, run_id: str) -> bool:
        """Whether somebody is carrying the run on."""
        return self._of(run_id).is_alive(run_id)

    def reap(self) -> None:
        """Close the embedded runs that nobody carries on; a server closes its own."""
        if self.name == "embedded":
            self._embedded.reap()

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""
        return self._of(run_id).log_hint(run_id)

    def portal_url(self, run_id: str) -> str | None:
        """Return the address of a run in Airflow's UI, or None if no server is there to show it."""
        engine = self._of(run_id)
        return None if isinstance(engine, EmbeddedEngine) else engine.portal_url(run_id)

    def waits_for(self, run_id: str) -> str | None:
        """Say what keeps steps of a run from starting, other than slots that are taken; None if nothing."""
        engine = self._of(run_id)
        return None if isinstance(engine, EmbeddedEngine) else engine.waits_for(run_id)

    def _of(self, run_id: str) -> EmbeddedEngine | ServerEngine:
        return self._server if self._room.catalog.get_run(run_id).engine == "server" else self._embedded

    @cached_property
    def _embedded(self) -> EmbeddedEngine:
        return EmbeddedEngine(self._folder)

    @cached_property
    def _server(self) -> ServerEngine:
        from airflow_mlpipe.engine.client import ServerEngine

        return ServerEngine(self._folder)
