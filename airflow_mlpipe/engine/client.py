"""Runs on a live Airflow, the workspace's own or a remote one: the client's side. Imports nothing of Airflow."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, RunRow
from airflow_mlpipe.engine.bookkeeping import WITHOUT_A_WORD, close_run, end_running_steps
from airflow_mlpipe.engine.names import dag_run_of, digest_tag
from airflow_mlpipe.engine.pools import Outcome, Pools, missing_text
from airflow_mlpipe.engine.rest import AirflowApi, Login
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.server_settings import ServerHome
from airflow_mlpipe.engine.server_state import ServerState
from airflow_mlpipe.errors import (
    ConfigError,
    MlpipeError,
    NotFoundError,
    ServiceError,
    UnreachableError,
)
from airflow_mlpipe.model.digest import short
from airflow_mlpipe.model.spec import PipelineSpec

URL_VARIABLE = "MLPIPE_AIRFLOW_URL"
"""Environment variable with the address of a remote Airflow; before the setting ``airflow_url``."""

USER_VARIABLE = "MLPIPE_AIRFLOW_USER"
PASSWORD_VARIABLE = "MLPIPE_AIRFLOW_PASSWORD"
TOKEN_VARIABLE = "MLPIPE_AIRFLOW_TOKEN"
"""Environment variables with the login of a remote Airflow."""

SHOWN_S = 60.0
"""How long Airflow may take from a publish to a DAG that can be triggered."""

GONE_S = 60.0
"""How long a run that is waited for may be without an answer of its server."""

_LOOK_S = 0.1
_LAST_WORDS_S = 15.0
"""How long steps may take, after their DAG run has ended, to say in the catalog how they ended."""

_LEFT_S = 300.0
"""After which a run that was stored, but never triggered, is taken for left behind by its submit."""

_DONE = ("success", "failed")
_log = logging.getLogger(__name__)


class ServerEngine:
    """Hands runs to a live Airflow through its REST API.

    Attributes:
        name: ``server``.
    """

    name = "server"

    def __init__(self, workspace_dir: Path) -> None:
        """Serve the workspace whose ``.mlpipe`` folder is `workspace_dir`."""
        self._room = Room(Path(workspace_dir).resolve())
        self._home = ServerHome(self._room.folder)
        self._api: AirflowApi | None = None
        self._silent_since: float | None = None

    @property
    def api(self) -> AirflowApi:
        """The server: that which the setting ``airflow_url`` names, else the workspace's own.

        Raises:
            UnreachableError: if none is named and none runs.
            ConfigError: if the login of a remote one is missing.
        """
        url = remote_url(self._room)
        if url is not None:
            if self._api is None:
                advice = "see that it runs, or correct the setting 'airflow_url' in the workspace's config.json"
                self._api = AirflowApi(url, _login(url), advice=advice)
            return self._api
        state = ServerState.of(self._home)
        if state is None:
            raise UnreachableError(f"workspace '{self._room.folder}' has no running server; start it with 'mlpipe up'")
        if self._api is None or (self._api.url, self._api.login.password) != (state.url, state.password):
            login = Login(state.user, state.password, "start the server anew with 'mlpipe up'")
            self._api = AirflowApi(state.url, login, advice="'mlpipe status' tells how it is")
        return self._api

    # --- the engine's part

    def submit(self, run_id: str) -> None:
        """Publish the run's spec, wait until Airflow has it, and trigger a DAG run of it, whose id is the run's own.

        A run that cannot be triggered is closed as failed, with the reason.

        Raises:
            UnreachableError: if the server does not answer, or does not get well.
            PermissionDeniedError: if the user may not do what is needed.
            ServiceError: if Airflow does not show the pipeline, or refuses the run.
            ConfigError: if the pipeline is paused in Airflow.
        """
        catalog = self._room.catalog
        row = catalog.get_run(run_id)
        spec = self._room.spec(row.spec_digest)
        try:
            self._be_well()
            self._make_pools(spec)
            # One spec of a pipeline at a time: of two that are published at once Airflow would see the last alone.
            with self._room.registry.reserved(spec.name):
                self._room.registry.publish(spec)
                self._wait_until_shown(spec)
                self._trigger(row, spec)
        except BaseException as error:
            told = error.message if isinstance(error, MlpipeError) else f"{type(error).__name__}: {error}"
            # Also for a DAG run that was made although the answer got lost: none of its steps will start.
            catalog.request_stop(run_id, "failure", told)
            close_run(catalog, run_id, spec, error=told)
            raise

    def cancel(self, run_id: str) -> None:
        """End the DAG run of a run whose cancellation is in the catalog already. Its steps see that for themselves.

        Raises:
            UnreachableError: if the server does not answer; steps that run end all the same.
        """
        row = self._room.catalog.get_run(run_id)
        if row.dag_id is None or (remote_url(self._room) is None and ServerState.of(self._home) is None):
            # Not triggered, or nobody is there to end it: a submit on its way, and the next server, see it closed.
            close_run(self._room.catalog, run_id, self._room.spec(row.spec_digest))
            return
        self._end_dag_run(row.dag_id, dag_run_of(row))

    def is_alive(self, run_id: str) -> bool:
        """Whether Airflow carries the run on; one whose DAG run has ended is closed.

        Raises:
            UnreachableError: if the server has not answered for :data:`GONE_S`. The run goes on when it is back.
        """
        row = self._room.catalog.get_run(run_id)
        try:
            if row.dag_id is not None and row.status not in FINAL_RUN_STATUSES:
                self._look(row)
        except UnreachableError as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > GONE_S:
                raise UnreachableError(f"{error.message}; run {run_id} goes on when it is back") from error
        else:
            self._silent_since = None
        return True

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""
        return f"the run in Airflow: {self.portal_url(run_id) or 'its server does not run'}"

    def portal_url(self, run_id: str) -> str | None:
        """Return the address of the run in Airflow's UI, or None if no server is there to show it."""
        row = self._room.catalog.get_run(run_id)
        url = remote_url(self._room)
        if url is None:
            state = ServerState.of(self._home)
            url = None if state is None else state.url
        if url is None:
            return None
        dag, dag_run = (quote(name, safe="") for name in (row.dag_id or row.pipeline, dag_run_of(row)))
        return f"{url.rstrip('/')}/dags/{dag}/runs/{dag_run}"

    def unwell(self) -> list[str]:
        """Return what is wrong with the server; nothing if it can carry runs."""
        try:
            health = self.api.health()
        except UnreachableError as error:
            return [error.message]
        parts = {name: health.get(name) or {} for name in ("metadatabase", "scheduler", "dag_processor")}
        return [f"{name} is {part.get('status') or 'not there'}" for name, part in parts.items()
                if part.get("status") != "healthy"]  # fmt: skip

    # --- pools

    def sync(self) -> dict[str, Outcome]:
        """Make or resize the pool of every compute target of the workspace. Returns what became of each.

        Raises:
            UnreachableError: if the server does not answer.
            PermissionDeniedError: if the user may not; the message has the command to ask for.
        """
        pools = Pools(self.api)
        return {spec.name: pools.ensure(spec.name, spec.max_nodes) for spec in self._room.catalog.list_computes()}

    def waits_for(self, run_id: str) -> str | None:
        """Say what in Airflow keeps steps of a run from starting, other than slots that are taken; None if nothing.

        Raises:
            UnreachableError: if the server does not answer.
        """
        catalog = self._room.catalog
        row = catalog.get_run(run_id)
        if row.status in FINAL_RUN_STATUSES:
            return None
        steps = self._room.spec(row.spec_digest).step_by_id
        open_steps = [each.step_id for each in catalog.steps(run_id, brief=True) if each.status == "not_started"]
        wanted = {compute for step_id in open_steps if (compute := steps[step_id].compute) is not None}
        limits = self._room.compute_limits(self._room.spec(row.spec_digest))
        missing = Pools(self.api).missing(wanted)
        return "; ".join(missing_text(compute, limits.get(compute)) for compute in missing) or None

    # --- the server's own part

    def adopt(self) -> None:
        """Take the runs that were stored for a dispatcher which will not come, or whose submit was killed."""
        for row in self._room.catalog.queued_runs():
            left = datetime.now(UTC) - row.created_at > timedelta(seconds=_LEFT_S)
            if row.engine == "embedded" or (row.engine == self.name and left):
                self._room.catalog.update_run(row.id, engine=self.name)
                try:
                    self.submit(row.id)
                except MlpipeError as error:
                    _log.warning("run %s cannot be carried on: %s", row.id, error)

    def sweep(self) -> None:
        """Close the runs whose DAG run has ended, for which nobody waits."""
        for row in self._room.catalog.list_runs(limit=200):
            if row.engine == self.name and row.dag_id is not None and row.status not in FINAL_RUN_STATUSES:
                self._look(row)

    # --- steps of a submit

    def _be_well(self) -> None:
        deadline = time.monotonic() + SHOWN_S
        while unwell := self.unwell():
            if time.monotonic() > deadline or (remote_url(self._room) is None and ServerState.of(self._home) is None):
                raise UnreachableError(f"Airflow cannot carry runs: {', '.join(unwell)}")
            time.sleep(_LOOK_S)

    def _make_pools(self, spec: PipelineSpec) -> None:
        pools = Pools(self.api)
        for compute, limit in self._room.compute_limits(spec).items():
            pools.ensure(compute, limit)
        for name, slots in self._room.named_pools(spec).items():
            pools.ensure_named(name, slots, f"setting 'pools' of workspace '{self._room.folder}'")

    def has_pool(self, name: str) -> bool:
        """Whether Airflow has a pool of that name.

        Raises:
            ServiceError: if the server does not answer, or refuses.
        """
        return Pools(self.api).get(name) is not None

    def _wait_until_shown(self, spec: PipelineSpec) -> None:
        """Wait until Airflow's newest version of the DAG is that of `spec`."""
        wanted = digest_tag(spec)
        deadline = time.monotonic() + SHOWN_S
        while True:
            try:
                dag = self.api.get("dags", spec.name)
            except NotFoundError:
                dag = {"is_stale": True}
            if not dag["is_stale"] and any(tag["name"] == wanted for tag in dag["tags"]):
                if dag["is_paused"]:
                    raise ConfigError(
                        f"pipeline '{spec.name}' is paused in Airflow; switch it on there, or with "
                        f"'airflow dags unpause {spec.name}'"
                    )
                return
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Airflow at {self.api.url} does not show pipeline '{spec.name}' in its version "
                    f"{short(spec.digest)} within {SHOWN_S:g} s{self._why_not(spec)}"
                )
            time.sleep(_LOOK_S)

    def _why_not(self, spec: PipelineSpec) -> str:
        errors = self.api.get("importErrors", filename_pattern=f"{spec.name}.json")["import_errors"]
        if errors:
            return f": {errors[0]['stack_trace'].strip().splitlines()[-1]}"
        return (
            f"; its setting [dag_processor] dag_bundle_config_list must have a bundle of class "
            f"airflow_mlpipe.engine.bundle.WorkspaceBundle with workspace='{self._room.folder}'"
        )

    def _trigger(self, row: RunRow, spec: PipelineSpec) -> None:
        catalog = self._room.catalog
        if catalog.get_run(row.id).status != "Queued":
            # Cancelled meanwhile; whoever did that has closed it.
            return
        body = {"dag_run_id": row.id, "logical_date": None, "conf": self._room.conf(row)}
        triggered = {"started_at": datetime.now(UTC), "dag_id": spec.name}
        # 409: an earlier try was heard, although its answer was not.
        self.api.call("POST", ["dags", spec.name, "dagRuns"], body, also=[409])
        if catalog.update_run(row.id, status="Running", **triggered):
            return
        if catalog.get_run(row.id).status == "Completed":
            # Its plan was quicker than the answer, and found that nothing had to run.
            catalog.update_run(row.id, **triggered)
        else:
            self._end_dag_run(spec.name, row.id)

    def _end_dag_run(self, dag_id: str, run_id: str) -> None:
        try:
            # 409: it has ended by itself.
            self.api.call("PATCH", ["dags", dag_id, "dagRuns", run_id], {"state": "failed"}, also=[409])
        except NotFoundError:
            return

    # --- following a run

    def _look(self, row: RunRow) -> None:
        """Close the run if its DAG run has ended."""
        catalog, spec = self._room.catalog, self._room.spec(row.spec_digest)
        try:
            path = ["dags", row.dag_id or "", "dagRuns", dag_run_of(row)]
            dag_run = self.api.call("GET", path, patience_s=0.0)[1]
        except NotFoundError:
            end_running_steps(catalog, row.id, "the run was deleted in Airflow")
            close_run(catalog, row.id, spec, error="it was deleted in Airflow")
            return
        if dag_run["state"] not in _DONE:
            return
        if any(step.status == "running" for step in catalog.steps(row.id, brief=True)):
            if _age_s(dag_run) < _LAST_WORDS_S:
                return
            end_running_steps(catalog, row.id, WITHOUT_A_WORD)
        close_run(catalog, row.id, spec, error=None if dag_run["state"] == "success" else self._blame(dag_run))

    def _blame(self, dag_run: dict[str, Any]) -> str:
        path = ("dags", dag_run["dag_id"], "dagRuns", dag_run["dag_run_id"], "taskInstances")
        tasks = self.api.get(*path, state="failed", limit=5)["task_instances"]
        names = ", ".join(f"'{task['task_id']}'" for task in tasks)
        return f"failed in Airflow{f', where task {names} failed' if names else ''}"


def remote_url(room: Room) -> str | None:
    """Return the address of an Airflow elsewhere, or None: ``MLPIPE_AIRFLOW_URL``, else the setting ``airflow_url``."""
    url = os.environ.get(URL_VARIABLE) or room.config.get("settings", {}).get("airflow_url")
    return None if not url else str(url).rstrip("/")


def _login(url: str) -> Login:
    """Return the login of a remote Airflow: from the environment, else from the keyring.

    Raises:
        ConfigError: if neither has one.
    """
    user, password = os.environ.get(USER_VARIABLE, ""), os.environ.get(PASSWORD_VARIABLE, "")
    if token := os.environ.get(TOKEN_VARIABLE):
        return Login("", token, f"{TOKEN_VARIABLE} may have expired")
    if user and password:
        return Login(user, password, f"correct {USER_VARIABLE} and {PASSWORD_VARIABLE}")
    try:
        from keyring import get_credential
    except ModuleNotFoundError:
        found = None
    else:
        found = get_credential(url, user or None)
    if found is not None:
        return Login(found.username, found.password, f"correct the entry '{url}' of the keyring")
    raise ConfigError(
        f"no login for Airflow at {url}: set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or {TOKEN_VARIABLE}, or install "
        f"'keyring' and store one for the service '{url}'"
    )


def _age_s(dag_run: dict[str, Any]) -> float:
    ended = dag_run.get("end_date")
    return float("inf") if not ended else (datetime.now(UTC) - datetime.fromisoformat(ended)).total_seconds()
