"""The workspace: where pipelines run, and what they read, write and leave behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.model.data import is_web
from airflow_mlpipe.sdk import registry
from airflow_mlpipe.sdk.names import NamedView
from airflow_mlpipe.sdk.workspace_config import (
    FILE,
    FOLDER,
    V1_FOLDER,
    WorkspaceConfig,
    find_config,
    is_own,
    read_config,
    write_config,
)
from airflow_mlpipe.sdk.workspace_documents import WorkspaceDocuments
from airflow_mlpipe.sdk.workspace_folder import catalog_url, make_workspace, open_or_make, shared_or_own, store_url
from airflow_mlpipe.sdk.workspace_refused import RefusedParts

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
    from airflow_mlpipe.sdk.compute import ComputeTarget
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.engine import Engine, ServerControl
    from airflow_mlpipe.sdk.environment import Environment
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.sdk.run import Run
    from airflow_mlpipe.storage.datastore import AnyStore, LocalStore
    from airflow_mlpipe.storage.stat_index import StatIndex

MAX_NAME = 255


class Workspace(WorkspaceDocuments, RefusedParts):
    """A workspace: datastores, datasets, compute targets, environments, experiments, models and their runs.

    Get one with :meth:`from_config` or :meth:`get`; make one with :meth:`create` or ``mlpipe init``. Opening it reads
    one small file; catalog and datastores are opened when they are needed.
    """

    def __init__(
        self,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        auth: object = None,
        **kwargs: Any,
    ) -> None:
        """Open an existing workspace by name, as v1's constructor does.

        Args:
            subscription_id: only a workspace with this one, if it is given and the workspace has one.
            resource_group: likewise.
            workspace_name: its name.
            auth: accepted as in v1, not used.
            **kwargs: accepted as in v1, not used.

        Raises:
            ParameterError: without a name.
            ConfigError: if there is no such workspace on this machine, or more than one.
        """
        if not workspace_name:
            raise ParameterError("Workspace() needs workspace_name=; Workspace.from_config() finds that of this folder")
        self._bind(*registry.find(workspace_name, subscription_id, resource_group))

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str] | None = None, auth: object = None, _logger: object = None, **kwargs: Any
    ) -> Workspace:
        """Open the workspace that serves a folder.

        Looks in the folder and those above it for ``.mlpipe/config.json``, ``.azureml/config.json`` and
        ``config.json``. A file of v1's, with its three keys only, stands for the embedded workspace beside it, which
        is made, with a note on stderr, if there is none. Inside a step it is the workspace of the run.

        Args:
            path: a configuration file, or the folder to start from; by default what the environment variable
                ``MLPIPE_WORKSPACE`` names, else the working directory.
            auth: accepted as in v1, not used.
            _logger: accepted as in v1, not used.
            **kwargs: accepted as in v1, not used.

        Raises:
            ConfigError: if there is no configuration, or it is malformed.
        """
        own = _workspace_of_this_step()
        if own is not None and path is None:
            return own
        found, config = find_config(None if path is None else Path(path))
        if own is not None and not is_own(found):
            return own
        return cls._of(*open_or_make(found, config))

    @classmethod
    def get(
        cls,
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        **kwargs: Any,
    ) -> Workspace:
        """Open an existing workspace by name: one made by this user on this machine, or that of this folder.

        Args:
            name: its name.
            auth: accepted as in v1, not used.
            subscription_id: only a workspace with this one, if it is given and the workspace has one.
            resource_group: likewise.
            **kwargs: accepted as in v1, not used.

        Raises:
            ConfigError: if there is none, or more than one; the message names the folders.
        """
        own = _workspace_of_this_step()
        if own is not None and own.name == name:
            return own
        return cls._of(*registry.find(name, subscription_id, resource_group))

    @classmethod
    def create(
        cls,
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        friendly_name: str | None = None,
        exist_ok: bool = False,
        show_output: bool = True,
        *,
        path: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Workspace:
        """Make an embedded workspace, or one that machines share.

        The latter where ``MLPIPE_CATALOG_CONN`` names a catalog; ``docs/how-to/deploy.md`` has more.

        Args:
            name: its name, up to 255 printable characters.
            auth: accepted as in v1, not used.
            subscription_id: recorded.
            resource_group: recorded.
            location: recorded.
            create_resource_group: accepted as in v1, not used.
            sku: accepted as in v1, not used.
            friendly_name: accepted as in v1, not used.
            exist_ok: whether to open the workspace of that name if it exists already.
            show_output: accepted as in v1, not used.
            path: the folder in which ``.mlpipe`` is made; by default the working directory.
            **kwargs: accepted as in v1, not used.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if the folder has a workspace already - with `exist_ok`, one of another name.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise ParameterError(f"workspace name {name!r} is not allowed; use 1 to {MAX_NAME} printable characters")
        folder = Path(path or Path.cwd()).expanduser().resolve() / FOLDER
        wanted = WorkspaceConfig(
            workspace_name=name,
            subscription_id=subscription_id or "",
            resource_group=resource_group or "",
            location=location or "",
        )
        if not (folder / FILE).is_file():
            if exist_ok and path is None and (known := registry.matching(name, subscription_id, resource_group)):
                return cls._of(*known[0]) if len(known) == 1 else cls.get(name, None, subscription_id, resource_group)
            return cls._of(folder, make_workspace(folder, *shared_or_own(wanted)))
        there = read_config(folder / FILE)
        if not exist_ok or there.workspace_name != name:
            raise ConfigError(
                f"folder '{folder.parent}' has the workspace '{there.workspace_name}' already; open it with "
                "Workspace.from_config(), or give another path="
                + ("" if exist_ok else "; exist_ok=True opens one of the same name")
            )
        return cls._of(folder, there)

    @classmethod
    def _of(cls, folder: Path, config: WorkspaceConfig) -> Workspace:
        workspace = cls.__new__(cls)
        workspace._bind(folder, config)
        return workspace

    def _bind(self, folder: Path, config: WorkspaceConfig) -> None:
        self._config = config
        self._stores: dict[str, AnyStore] = {}
        self.dir: Path = folder
        """The workspace's own folder, ``.mlpipe``."""

    @property
    def name(self) -> str:
        """Its name."""
        return self._config.workspace_name

    @property
    def id(self) -> str:
        """A UUID."""
        return self._config.id

    @property
    def subscription_id(self) -> str:
        """What was given when it was made; v1's users print it."""
        return self._config.subscription_id

    @property
    def resource_group(self) -> str:
        """What was given when it was made; v1's users print it."""
        return self._config.resource_group

    @property
    def location(self) -> str:
        """What was given when it was made; v1's users print it."""
        return self._config.location

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options of its configuration file by name."""
        return self._config.settings

    @cached_property
    def catalog(self) -> Catalog:
        """The record of what happened."""
        from airflow_mlpipe.catalog.catalog import Catalog

        return Catalog.open(catalog_url(self.dir, self._config))

    @cached_property
    def index(self) -> StatIndex:
        """What is known of files by their stat."""
        from airflow_mlpipe.storage.stat_index import StatIndex

        return StatIndex(self.dir / "index.db")

    @cached_property
    def engine(self) -> Engine:
        """What runs its pipelines.

        Raises:
            ConfigError: if it cannot be loaded.
        """
        from airflow_mlpipe.sdk.engine import DEFAULT_ENGINE, load_engine

        return load_engine(self._config.engine or DEFAULT_ENGINE, self.dir)

    @cached_property
    def server(self) -> ServerControl:
        """Its own Airflow server, which ``mlpipe up`` starts.

        Raises:
            ConfigError: if Airflow is not installed.
        """
        from airflow_mlpipe.sdk.engine import load_server

        return load_server(self.dir)

    def local_store(self, name: str) -> LocalStore:
        """Return the bytes behind a datastore of this machine.

        Raises:
            NotFoundError: if there is no datastore of that name.
            NotSupportedError: if it is not on this machine.
        """
        from airflow_mlpipe.storage.datastore import check_local

        return check_local(self.store(name))

    def store(self, name: str) -> AnyStore:
        """Return what is behind a datastore: files, here or elsewhere, or a database.

        Args:
            name: of a registered datastore, or the address of a web server, such as ``https://host``.

        Raises:
            NotFoundError: if there is no datastore of that name.
            ConfigError: if what it needs - a library, a connection - is missing.
        """
        if name not in self._stores:
            from airflow_mlpipe.sdk.credentials import provide_credentials
            from airflow_mlpipe.storage.datastore import open_any

            provide_credentials()
            limit = self._config.settings.get("cache_limit_bytes")
            if is_web(name):
                url, options = name, {}
            else:
                row = self.catalog.get_datastore(name)
                url, options = store_url(row.url, self.dir, self._config), row.options
            self._stores[name] = open_any(name, url, options, self.dir, limit)
        return self._stores[name]

    def forget_store(self, name: str) -> None:
        """Open a datastore anew when it is next asked for: its definition has changed."""
        self._stores.pop(name, None)

    def get_default_datastore(self) -> Datastore:
        """Return the default datastore."""
        from airflow_mlpipe.sdk.datastore import Datastore

        return Datastore(self)

    def set_default_datastore(self, name: str | Datastore) -> None:
        """Make a datastore the default for what is stored from now on.

        It may be a folder of this machine or lie elsewhere. What is stored already stays, and is found, where it is.

        Raises:
            ConfigError: if there is no datastore of that name.
            NotSupportedError: if nothing can be written to it: a database, or one on the web.
        """
        from airflow_mlpipe.sdk.datastore import Datastore
        from airflow_mlpipe.storage.urls import is_database

        datastore = Datastore(self, name)
        if is_database(datastore.url) or is_web(datastore.url):
            raise NotSupportedError(
                f"datastore '{datastore.name}' ({datastore.url}) cannot be the default one: it takes no files; "
                "allowed are folders, S3, Azure Blob and Data Lake gen 2, and Google Cloud Storage"
            )
        self.catalog.set_default_datastore(datastore.name)

    @property
    def datastores(self) -> Mapping[str, Datastore]:
        """Its datastores by name."""
        from airflow_mlpipe.sdk.datastore import Datastore

        return NamedView(
            lambda: [row.name for row in self.catalog.list_datastores()], lambda name: Datastore(self, name)
        )

    @property
    def datasets(self) -> Mapping[str, AbstractDataset]:
        """The newest version of its registered datasets by name."""
        from airflow_mlpipe.sdk.dataset import Dataset

        return NamedView(
            lambda: [row.name for row in self.catalog.list_datasets()], lambda name: Dataset.get_by_name(self, name)
        )

    @property
    def compute_targets(self) -> Mapping[str, ComputeTarget]:
        """Its compute targets by name, each of its own type."""
        from airflow_mlpipe.sdk.compute import ComputeTarget

        return NamedView(
            lambda: [spec.name for spec in self.catalog.list_computes()], lambda name: ComputeTarget(self, name)
        )

    @property
    def environments(self) -> Mapping[str, Environment]:
        """The newest version of its registered environments, and those that v1 kept for everybody, by name."""
        from airflow_mlpipe.sdk.curated import curated_names
        from airflow_mlpipe.sdk.environment import Environment

        return NamedView(
            lambda: sorted({*(row.name for row in self.catalog.list_environments()), *curated_names()}),
            lambda name: Environment.get(self, name),
        )

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        """Its experiments by name: those that have runs."""
        from airflow_mlpipe.sdk.experiment import get_experiment

        return NamedView(self.catalog.list_experiments, lambda name: _found(get_experiment, self, name))

    @property
    def models(self) -> Mapping[str, Model]:
        """The newest version of its registered models by name."""
        from airflow_mlpipe.sdk.model import Model

        return NamedView(
            lambda: [row.name for row in self.catalog.list_models(latest=True)],
            lambda name: _found(Model, self, name),
        )

    def get_run(self, run_id: str) -> Run:
        """Return a run - of a pipeline or of a step - by its id.

        Raises:
            NotFoundError: if there is none.
        """
        from airflow_mlpipe.sdk.run import Run

        return Run.get(self, run_id)

    def get_details(self) -> dict[str, Any]:
        """Return what is known of the workspace, with v1's keys and the folder it lies in."""
        return {
            "id": self.id,
            "name": self.name,
            "location": self.location,
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
            "type": "mlpipe/embedded",
            "folder": str(self.dir),
            "engine": self._config.engine or "embedded",
            "defaultDatastore": self.catalog.get_datastore().name,
        }

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write a configuration file through which :meth:`from_config` finds this workspace from another folder.

        Args:
            path: the folder in which ``.azureml`` is made, as in v1; by default the working directory.
            file_name: by default ``config.json``.

        Raises:
            ConfigError: if it cannot be written.
        """
        config = WorkspaceConfig(
            workspace_name=self.name,
            subscription_id=self.subscription_id,
            resource_group=self.resource_group,
            folder=str(self.dir),
        )
        write_config(Path(path or Path.cwd()) / V1_FOLDER / (file_name or FILE), config)

    def __eq__(self, other: object) -> bool:
        return self.dir == other.dir if isinstance(other, Workspace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.dir)

    def __repr__(self) -> str:
        return (
            f"Workspace.create(name={self.name!r}, subscription_id={self.subscription_id!r}, "
            f"resource_group={self.resource_group!r})"
        )


def _workspace_of_this_step() -> Workspace | None:
    """Return the workspace that this process runs a step of, or None."""
    # Here, not above: it is made of this module's class.
    from airflow_mlpipe.sdk.away import own_workspace

    return own_workspace()


def _found(get: Any, workspace: Workspace, name: str) -> Any:
    """Return `get(workspace, name)`, with an error that the workspace's dictionaries understand."""
    from airflow_mlpipe.sdk.names import UnknownNameError

    try:
        return get(workspace, name)
    except NotFoundError as error:
        raise UnknownNameError(error.message) from None
