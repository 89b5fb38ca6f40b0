"""What a pipeline's steps name in its workspace - datastores, compute targets, environments - looked up once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ConfigError, NotFoundError, PipelineError
from airflow_mlpipe.model.compute import ComputeKind, ComputeSpec, Resources
from airflow_mlpipe.model.data import RegisterSpec, is_web
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.target import effective
from airflow_mlpipe.model.vm_sizes import size_of
from airflow_mlpipe.sdk.asked import asked_by, check_target
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.compute import LOCAL, ComputeTarget, unknown_compute
from airflow_mlpipe.sdk.datastore import Datastore
from airflow_mlpipe.sdk.environment import Environment
from airflow_mlpipe.sdk.names import UnknownNameError, listed
from airflow_mlpipe.sdk.steps import PipelineStep
from airflow_mlpipe.storage.urls import is_database

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import DatastoreRow
    from airflow_mlpipe.sdk.pipeline import Pipeline


class Places:
    """Looks up for one compilation. Each kind of thing costs one query however many steps there are."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Look up in the workspace of `pipeline`."""
        self._workspace = pipeline.workspace
        self._default = pipeline.default_datastore
        # Kept with the object: an id of an object that is gone may come again.
        self._environments: dict[int, tuple[Environment, EnvironmentSpec]] = {}

    def datastore(self, data: Produced, step: PipelineStep) -> str:
        """Return the name of the datastore that keeps an output.

        Raises:
            ConfigError: if it is not registered, or in another workspace.
            PipelineError: if it is only read: a database, or the web.
        """
        given = data.store if data.store is not None else self._default
        name = self._default_name if given is None else self.check(given, step)
        url = next((row.url for row in self._stores if row.name == name), "")
        if is_database(url) or is_web(url):
            raise PipelineError(
                f"step '{step.name}': an output cannot be kept in datastore '{name}' ({url}), which is only read; "
                "give another one, or leave it out for the default datastore"
            )
        return name

    def check(self, store: Datastore | str, step: PipelineStep) -> str:
        """Return the name of a datastore of this workspace.

        Raises:
            ConfigError: if it is not registered, or in another workspace.
        """
        if isinstance(store, Datastore):
            if store.workspace != self._workspace:
                raise ConfigError(
                    f"step '{step.name}': datastore '{store.name}' belongs to workspace '{store.workspace.name}' in "
                    f"'{store.workspace.dir}', the pipeline to '{self._workspace.name}' in '{self._workspace.dir}'; "
                    "use one workspace"
                )
            store = store.name
        if store not in self._datastores:
            raise UnknownNameError(
                f"step '{step.name}': workspace '{self._workspace.name}' has no datastore '{store}'; it has: "
                f"{listed(self._datastores)}; use one of them, or leave it out: ws.get_default_datastore()"
            )
        return store

    def registration(self, data: Produced, step: PipelineStep) -> RegisterSpec | None:
        """Return as what an output is registered.

        Raises:
            PipelineError: if the name belongs to datasets of the other kind.
        """
        wanted = data.registration
        if wanted is not None and self._kinds.get(wanted.name, wanted.kind) != wanted.kind:
            raise PipelineError(
                f"step '{step.name}': an output is to be registered as '{wanted.name}', a {wanted.kind} dataset, and "
                f"that is a {self._kinds[wanted.name]} dataset; register it under another name"
            )
        return wanted

    def compute(self, step: PipelineStep) -> str | None:
        """Return the name of a step's compute target, or None for this machine.

        Raises:
            ConfigError: if there is no such target.
            PipelineError: if it is not a target.
        """
        given = step.compute_target
        if given is None and step.runconfig is not None:
            given = step.runconfig.target
        if given is None or given == LOCAL:
            return None
        if not isinstance(given, (str, ComputeTarget)):
            raise PipelineError(
                f"step '{step.name}': compute_target {given!r} is a {type(given).__name__}; "
                "give a ComputeTarget or a name"
            )
        name = given if isinstance(given, str) else given.name
        if isinstance(given, ComputeTarget) and given.workspace != self._workspace:
            raise ConfigError(
                f"step '{step.name}': compute target '{name}' belongs to workspace '{given.workspace.name}', the "
                f"pipeline to '{self._workspace.name}'; use one workspace"
            )
        if name not in self._computes:
            error = unknown_compute(self._workspace, name)
            raise type(error)(f"step '{step.name}': {error.message}")
        return name

    def compute_kind(self, step: PipelineStep) -> ComputeKind:
        """Return what really runs a step on its compute target.

        Raises:
            ConfigError: if there is no such target.
            PipelineError: if it is not a target.
        """
        name = self.compute(step)
        if name is None:
            return "local"
        return effective(self._computes[name], self._find_compute, self._workspace.settings).kind

    def resources(self, step: PipelineStep, environment: EnvironmentSpec, compute: str | None) -> Resources:
        """Return how much a step asks for; its compute target, None for this machine, is known to have it.

        Raises:
            ParameterError: if it asks for what is not allowed.
            PipelineError: if its target has no GPU and it asks for one.
            ConfigError: if its target runs on one that does not exist, or has no such instance type.
        """
        settings = self._workspace.settings
        asked = asked_by(step, environment, settings)
        if compute is not None:
            try:
                spec = self._computes[compute]
                size = size_of(spec.vm_size, settings)
                check_target(step, asked, effective(spec, self._find_compute, settings), size)
            except ConfigError as error:
                raise type(error)(f"step '{step.name}': {error.message}") from None
        return asked

    def environment(self, environment: Environment) -> EnvironmentSpec:
        """Return what a step that asks for this environment gets.

        Raises:
            ConfigError: if it refers to one that is not registered.
            ParameterError: if one of its values is not allowed.
        """
        known = self._environments.get(id(environment))
        if known is None:
            known = self._environments[id(environment)] = (environment, environment.resolve(self._workspace))
        return known[1]

    @cached_property
    def _stores(self) -> list[DatastoreRow]:
        return self._workspace.catalog.list_datastores()

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {row.name: row.spec["kind"] for row in self._workspace.catalog.list_datasets()}

    @cached_property
    def _datastores(self) -> frozenset[str]:
        return frozenset(row.name for row in self._stores)

    @cached_property
    def _default_name(self) -> str:
        for row in self._stores:
            if row.is_default:
                return row.name
        return self._workspace.get_default_datastore().name

    def limit(self, compute: str) -> int | None:
        """Return how many steps may run at once on a compute target of this workspace; None for no limit."""
        return self._computes[compute].max_nodes

    @cached_property
    def _computes(self) -> dict[str, ComputeSpec]:
        return {spec.name: spec for spec in self._workspace.catalog.list_computes()}

    def _find_compute(self, name: str) -> ComputeSpec:
        if name not in self._computes:
            raise NotFoundError(f"workspace '{self._workspace.name}' has {listed(self._computes)}")
        return self._computes[name]
