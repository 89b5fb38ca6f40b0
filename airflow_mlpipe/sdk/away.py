"""The workspace as a step sees it that does not reach it: in a container, in a pod, on another machine.

It has its name and what the step is told of its own datasets. What only the catalog knows is refused, by an error that
names what was called and what to do instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from airflow_mlpipe.errors import UnreachableError
from airflow_mlpipe.execution.context import VARIABLE, current_context
from airflow_mlpipe.model.data import is_web
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.sdk.workspace_config import FILE, WorkspaceConfig, read_config

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.execution.aside import Aside
    from airflow_mlpipe.execution.contract import StepContext
    from airflow_mlpipe.model.result import WantedModel
    from airflow_mlpipe.sdk.engine import Engine, ServerControl
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.storage.datastore import AnyStore
    from airflow_mlpipe.storage.stat_index import StatIndex

_DATASET = (
    "make the dataset an input of the step, dataset.as_named_input('name'), and read "
    "Run.get_context().input_datasets['name']"
)
_DATASTORE = (
    "data comes in by the step's inputs, and goes to a datastore by an output: "
    "OutputFileDatasetConfig(destination=(datastore, 'folder'))"
)
_MODEL = (
    "let a step on the worker's machine (compute target 'local') download it to an output, and make that an input of "
    "this one"
)
_REGISTERED = "register an output of the step: OutputFileDatasetConfig().register_on_complete('name')"
_RUN = "look at runs in a step on the worker's machine (compute target 'local'), or after the run"
_OTHER = "do it in a step on the worker's machine (compute target 'local'), or before or after the run"

_INSTEAD = {
    "get_dataset": _DATASET,
    "get_dataset_by_id": _DATASET,
    "list_datasets": _DATASET,
    "get_datastore": _DATASTORE,
    "list_datastores": _DATASTORE,
    "former_defaults": _DATASTORE,
    "get_model": _MODEL,
    "list_models": _MODEL,
    "register_dataset": _REGISTERED,
    "get_run": _RUN,
    "list_runs": _RUN,
    "steps": _RUN,
    "step_by_id": _RUN,
    "written_of": _RUN,
}
"""What to do instead of what needs a catalog, by what is asked of the catalog."""


class AwayWorkspace(Workspace):
    """A workspace out of reach; see the module."""

    _context: StepContext

    @classmethod
    def of_step(cls, context: StepContext) -> AwayWorkspace:
        """Return the workspace of the step that `context` describes."""
        about = context.about
        config = WorkspaceConfig(
            workspace_name=about.name,
            subscription_id=about.subscription_id,
            resource_group=about.resource_group,
            location=about.location,
            id=about.id,
        )
        workspace = cls.__new__(cls)
        workspace._bind(Path(context.workspace), config)
        workspace._context = context
        return workspace

    @property
    def _work(self) -> Path:
        """The folder of the try."""
        return Path(self._context.events).parent

    @cached_property
    def catalog(self) -> Catalog:
        """Nothing: whatever is asked of it is refused."""
        return _NoCatalog(self._context)  # type: ignore[return-value]

    @cached_property
    def index(self) -> StatIndex:
        """What is known of files by their stat, in the folder of the try."""
        from airflow_mlpipe.storage.stat_index import StatIndex

        return StatIndex(self._work / "index.db")

    @cached_property
    def engine(self) -> Engine:
        """Nothing: nothing is submitted from here.

        Raises:
            UnreachableError: always.
        """
        _refuse(self._context, _OTHER)

    @cached_property
    def server(self) -> ServerControl:
        """Nothing.

        Raises:
            UnreachableError: always.
        """
        _refuse(self._context, _OTHER)

    @cached_property
    def aside(self) -> Aside:
        """Where files are laid that the run, or a model, keeps once the step has ended."""
        from airflow_mlpipe.execution.aside import Aside

        return Aside(self._work)

    def register_later(self, wanted: WantedModel, files: Mapping[str, Path]) -> Model:
        """Have a model registered once the step has succeeded.

        Args:
            wanted: the model.
            files: by the name they get inside the model.

        Raises:
            StorageError: if a file cannot be read or laid aside.
        """
        from airflow_mlpipe.execution.events import EventsWriter
        from airflow_mlpipe.sdk.later_model import LaterModel

        laid = self.aside.model(wanted.place)
        prefix = f"{wanted.folder}/" if wanted.folder else ""
        self.aside.put_model(wanted.place, {f"{prefix}{name}": source for name, source in files.items()})
        writer = EventsWriter(self._context.events)
        writer.model(wanted)
        writer.close()
        return LaterModel(self, wanted, laid)

    def store(self, name: str) -> AnyStore:
        """Return what is behind a datastore that a direct dataset of the step lies in, or an address on the web.

        Raises:
            UnreachableError: for any other.
            ConfigError: if what it needs - a library, a credential - is missing.
        """
        if name not in self._stores:
            from airflow_mlpipe.sdk.credentials import provide_credentials
            from airflow_mlpipe.storage.datastore import open_any

            url = self._context.stores.get(name, name if is_web(name) else None)
            if url is None:
                _refuse(self._context, _DATASTORE)
            provide_credentials()
            # What is lent is known by the workspace's folder, which is not there to keep copies of the web in.
            folder = self.dir if name in self._context.stores else self._work
            self._stores[name] = open_any(name, url, {}, folder)
        return self._stores[name]


def workspace_of(context: StepContext) -> Workspace:
    """Return the workspace of the step that `context` describes, from inside of it."""
    own = Path(context.workspace) / FILE
    # The folder itself may be there: the step's own files lie in it.
    if own.is_file():
        return Workspace._of(own.parent, read_config(own))
    return AwayWorkspace.of_step(context)


def own_workspace() -> Workspace | None:
    """Return the workspace that this process runs a step of, or None.

    Snapshots of v1's users hold a configuration file of v1's; it must not make a workspace inside of a step's copy.
    """
    if not os.environ.get(VARIABLE):
        return None
    context = current_context()
    return None if context is None else workspace_of(context)


class _NoCatalog:
    """Stands where a catalog would be asked."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(self._context, _INSTEAD.get(name, _OTHER))


def _refuse(context: StepContext, instead: str) -> NoReturn:
    raise UnreachableError(
        f"{_called()} cannot be had in step '{context.step}', which runs in a container, in a pod or on another "
        f"machine and does not reach workspace '{context.about.name}': {instead}"
    )


def _called() -> str:
    """Return what the user's code has called, such as ``Dataset.get_by_name``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_back.f_globals.get("__name__", "").startswith("airflow_mlpipe."):
        frame = frame.f_back
    name = frame.f_code.co_qualname
    if name.startswith("NamedView."):
        return "a dictionary of the workspace"
    # Classes of our own stand in for v1's inside of a step.
    name = name.replace("_SubmittedRun", "Run").replace("_ParentRun", "PipelineRun").replace("AwayW", "W")
    return name.removesuffix(".__init__").removesuffix(".__new__")
