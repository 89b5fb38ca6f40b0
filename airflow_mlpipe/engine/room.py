"""The workspace as the engine's processes see it: its catalog, stores and settings, opened from its folder."""

from __future__ import annotations

import os
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.connection import RECONNECT_S
from airflow_mlpipe.catalog.rows import DatastoreRow, RunRow
from airflow_mlpipe.engine.catalog_registry import registry_of
from airflow_mlpipe.engine.flight import LEASE_TTL_S, LeaseKeeper
from airflow_mlpipe.engine.image_identity import identity_of
from airflow_mlpipe.engine.names import CONF_KEY, WORKSPACE_VARIABLE, pool_of
from airflow_mlpipe.engine.runs import EngineRun
from airflow_mlpipe.engine.settings import config_of, is_shared, named_workspace, wait_for_inputs_s
from airflow_mlpipe.engine.spec_registry import Registry
from airflow_mlpipe.errors import ConfigError, NotFoundError
from airflow_mlpipe.execution.contract import ContextWorkspace
from airflow_mlpipe.execution.provision import Environments, EnvironmentSettings
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.step_environments import StepEnvironments
from airflow_mlpipe.execution.step_images import StepImages
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.data import is_web
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.model.target import effective, for_step
from airflow_mlpipe.reuse.facts import WorkspaceFacts
from airflow_mlpipe.storage.credentials import resolve
from airflow_mlpipe.storage.datastore import AnyStore, documents_of, open_any
from airflow_mlpipe.storage.documents import DefaultDocuments, Documents
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.urls import is_folder


class Room:
    """One workspace, opened lazily and kept: a worker runs many tasks of it."""

    def __init__(self, folder: Path, patience_s: float = RECONNECT_S) -> None:
        """Name the ``.mlpipe`` folder; nothing is opened before it is needed.

        Args:
            folder: of the workspace.
            patience_s: how long a catalog that does not answer is asked again: a task must not fail for a database that
                is being started anew.
        """
        self.folder = Path(folder)
        self._patience_s = patience_s
        self._stores: dict[str, AnyStore] = {}
        self._specs: dict[Digest, PipelineSpec] = {}
        self._runs: dict[str, EngineRun] = {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The workspace's configuration file; it is made where the environment names a shared catalog.

        Raises:
            ConfigError: if there is none, or it is not JSON.
            UnreachableError: if it is to be made, and the catalog's server does not answer.
        """
        return config_of(self.folder)

    @cached_property
    def about(self) -> ContextWorkspace:
        """What the workspace is called, for steps that do not reach it."""
        known = {name: str(self.config.get(name) or "") for name in ContextWorkspace.model_fields}
        return ContextWorkspace(**{**known, "name": str(self.config.get("workspace_name") or "")})

    @property
    def max_active_steps(self) -> int:
        """How many tasks may run at once: the setting of that name, else one a core and at least four."""
        return int(self.config.get("settings", {}).get("max_active_steps") or max(4, os.cpu_count() or 1))

    @property
    def wait_for_inputs_s(self) -> float:
        """How long a run waits for data that its pipeline reads, in seconds: the setting of that name, else not."""
        return wait_for_inputs_s(self.config)

    @cached_property
    def registry(self) -> Registry:
        """The specs of its pipelines."""
        return registry_of(self.folder, self.catalog if is_shared(self.config) else None)

    @cached_property
    def catalog(self) -> Catalog:
        """The workspace's catalog."""
        url = self.config.get("catalog_conn") or f"sqlite:///{self.folder / 'catalog.db'}"
        return Catalog.open(url, patience_s=self._patience_s)

    @cached_property
    def leases(self) -> LeaseKeeper:
        """What keeps this process's leases alive, for the setting ``lease_ttl_s``, else :data:`LEASE_TTL_S`."""
        ttl_s = float(self.config.get("settings", {}).get("lease_ttl_s") or LEASE_TTL_S)
        return LeaseKeeper(self.catalog, ttl_s)

    @cached_property
    def index(self) -> StatIndex:
        """The workspace's stat index."""
        return StatIndex(self.folder / "index.db")

    @cached_property
    def documents(self) -> DefaultDocuments:
        """The default datastore, which keeps snapshots, manifests and records, and those that were it before."""
        return DefaultDocuments(documents_of(self.store(self.catalog.get_datastore().name)), self._former)

    @cached_property
    def facts(self) -> WorkspaceFacts:
        """What the planner asks of this workspace."""
        software = StepEnvironments(
            self.folder, self.documents, self.index, environments=self.environments, images=self.images
        )
        return WorkspaceFacts(self.catalog, self.store, self.documents, self.index, software)

    @cached_property
    def images(self) -> StepImages:
        """What the images of steps are, asked of their engines."""
        return StepImages(self.compute, partial(identity_of, self.folder))

    @cached_property
    def environments(self) -> Environments:
        """What the environments of steps were resolved to: the keys of steps and what they run on agree on it.

        Raises:
            ConfigError: if a setting about them is not allowed.
        """
        return Environments(self.documents, EnvironmentSettings.of(self.config.get("settings", {})))

    @cached_property
    def site(self) -> Site:
        """What a try of a step needs of this workspace."""
        return Site(
            catalog=self.catalog,
            store=self.store,
            default=self.documents,
            index=self.index,
            content=self.facts.content,
            passed=self.config.get("settings", {}).get("pass_environment", ()),
            workspace_id=self.config.get("id", ""),
            credentials=self.credentials,
            lent=self.config.get("settings", {}).get("pass_credentials", ()),
            environments=self.environments,
        )

    def store(self, name: str) -> AnyStore:
        """Return the datastore of that name: files, here or elsewhere, or a database.

        Raises:
            NotFoundError: if the workspace has none of that name.
            ConfigError: if what it needs - a library, a connection - is missing.
        """
        if name not in self._stores:
            limit = self.config.get("settings", {}).get("cache_limit_bytes")
            row = DatastoreRow(name=name, url=name) if is_web(name) else self.catalog.get_datastore(name)
            self._stores[name] = open_any(row.name, row.url, row.options, self.folder, limit)
        return self._stores[name]

    def credentials(self, name: str) -> dict[str, Any]:
        """Return the options of a datastore elsewhere with its secrets; nothing of one that is here, or on the web.

        Raises:
            NotFoundError: if the workspace has none of that name.
            ConfigError: if its connection is missing.
        """
        if is_web(name):
            return {}
        row = self.catalog.get_datastore(name)
        return {} if is_folder(row.url) else resolve(row.name, row.url, row.options, self.folder)

    def _former(self) -> list[Documents]:
        return [documents_of(self.store(row.name)) for row in self.catalog.former_defaults()]

    def spec(self, digest: Digest) -> PipelineSpec:
        """Return the spec of that digest."""
        if digest not in self._specs:
            self._specs[digest] = PipelineSpec.from_json(self.catalog.get_spec(digest))
        return self._specs[digest]

    def run(self, run_id: str) -> EngineRun:
        """Return the run of that id; kept, so that the tasks of a run share what its planner learned."""
        if run_id not in self._runs:
            row = self.catalog.get_run(run_id)
            # A worker serves few runs at a time; more are only remembered.
            if len(self._runs) >= 8:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = EngineRun(self, row, self.spec(row.spec_digest))
        return self._runs[run_id]

    def forget(self, run_id: str) -> None:
        """Read the run anew when it is next asked for."""
        self._runs.pop(run_id, None)

    def compute(self, step: StepSpec) -> ComputeSpec | None:
        """Return the compute target of a step, as it is now and as this step gets it; None for this machine.

        Raises:
            NotFoundError: if it was deleted since the pipeline was compiled.
            ConfigError: if the target that it runs on was, or an instance type of it.
        """
        if step.compute is None:
            return None
        find = self.catalog.get_compute
        return for_step(effective(find(step.compute), find, self.config.get("settings", {})), step.resources)

    def compute_limits(self, spec: PipelineSpec) -> dict[str, int | None]:
        """Return by compute target of `spec` how many steps may run on it at once, None for no limit."""
        limits: dict[str, int | None] = {}
        for name in sorted({step.compute for step in spec.steps if step.compute is not None}):
            try:
                limits[name] = self.catalog.get_compute(name).max_nodes
            except NotFoundError:
                # Deleted since the pipeline was compiled; its steps say so.
                limits[name] = None
        return limits

    @property
    def pools(self) -> dict[str, int]:
        """The pools that users have described (setting ``pools``), with their slots; -1 for no limit."""
        return dict(self.config.get("settings", {}).get("pools") or {})

    def named_pools(self, spec: PipelineSpec) -> dict[str, int | None]:
        """Return by pool that the steps of `spec` name and users have described how many slots it is to have."""
        named = sorted({step.airflow["pool"] for step in spec.steps if "pool" in step.airflow})
        return {name: self.pools[name] for name in named if name in self.pools}

    def pool_limits(self, spec: PipelineSpec) -> dict[str, int | None]:
        """Return by pool of the steps of `spec` how many slots it is to have, None for no limit."""
        targets = {pool_of(name): slots for name, slots in self.compute_limits(spec).items()}
        return {**targets, **self.named_pools(spec)}

    def conf(self, row: RunRow) -> dict[str, Any]:
        """Return the conf of the DAG run that carries `row`."""
        flags = {
            "run_id": row.id,
            "spec": row.spec_digest,
            "regenerate_outputs": row.regenerate,
            "continue_on_step_failure": row.continue_on_step_failure,
        }
        return {**row.parameters, CONF_KEY: flags}


def room_at(folder: str, patience_s: float = RECONNECT_S) -> Room:
    """Return the room of a ``.mlpipe`` folder; one for each process and patience."""
    return _room_at(folder, patience_s)


@cache
def _room_at(folder: str, patience_s: float) -> Room:
    # Apart from its default: a cache takes an argument that is left out for another one than the same that is given.
    return Room(Path(folder), patience_s)


def room_of(workspace: str | None, patience_s: float = RECONNECT_S) -> Room:
    """Return the room an operator works in.

    Args:
        workspace: its ``.mlpipe`` folder, or None for the one that the environment names.
        patience_s: see :class:`Room`.

    Raises:
        ConfigError: if neither the operator nor the environment names a workspace.
    """
    folder = named_workspace(workspace)
    if folder is None:
        raise ConfigError(f"no workspace: set {WORKSPACE_VARIABLE} to the path of its .mlpipe folder")
    return room_at(folder, patience_s)
