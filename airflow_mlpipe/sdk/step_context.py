"""The run this process belongs to: what ``Run.get_context()`` gives inside a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, MissingDataError
from airflow_mlpipe.execution.context import current_context
from airflow_mlpipe.execution.contract import StepContext
from airflow_mlpipe.execution.events import EventsWriter, read_events
from airflow_mlpipe.model.result import FileRecord, Written
from airflow_mlpipe.sdk.offline_run import _OfflineRun
from airflow_mlpipe.sdk.pipeline_run import PipelineRun
from airflow_mlpipe.sdk.run import Run

if TYPE_CHECKING:
    from airflow_mlpipe.execution.aside import Aside
    from airflow_mlpipe.execution.events import Target
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.sdk.workspace import Workspace


ASIDE = ""
"""Stands for the datastore of a file that is in none yet."""


class StepProcess:
    """What this process knows of the step it belongs to. The workspace is opened when it is first needed."""

    def __init__(self, context: StepContext) -> None:
        """Belong to the step that `context` describes."""
        self.context = context
        self.events = EventsWriter(context.events)

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of the run, which may be out of reach, as in a container or a pod."""
        from airflow_mlpipe.sdk.away import workspace_of

        return workspace_of(self.context)

    @cached_property
    def aside(self) -> Aside | None:
        """Where files are laid that a run keeps, where the workspace is out of reach; else None."""
        from airflow_mlpipe.sdk.away import AwayWorkspace

        return self.workspace.aside if isinstance(self.workspace, AwayWorkspace) else None

    def laid_aside(self, target: Target) -> list[FileRecord]:
        """Return the files that are laid aside for a run."""
        files = {} if self.aside is None else self.aside.files(target)
        return [
            FileRecord(name=name, datastore=ASIDE, path=str(path), size_bytes=path.stat().st_size)
            for name, path in files.items()
        ]

    def dataset(self, name: str) -> Any:
        """Return the dataset that the step reads through an object, as the input of this name."""
        from airflow_mlpipe.sdk.dataset import dataset_of

        port = self.context.inputs[name]
        assert port.dataset is not None
        return dataset_of(self.workspace, port.dataset, name=name, dataset_id=port.dataset_id)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment of the run."""
        from airflow_mlpipe.sdk.experiment import Experiment

        return Experiment(self.workspace, self.context.experiment)


class _Aside(Run):
    """A run as a step's process has it: files that it keeps are laid aside where no datastore is reached."""

    _process: StepProcess
    _target: Target

    def _here(self, file: FileRecord) -> Path:
        return Path(file.path) if file.datastore == ASIDE else super()._here(file)

    def _keep(self, name: str, source: Path | bytes) -> None:
        if self._process.aside is None:
            super()._keep(name, source)
        else:
            self._process.aside.put(self._target, name, source)


class _SubmittedRun(_Aside):
    """The run of a step, seen from inside: what is written goes through the events file, which needs no catalog.

    The name is v1's.
    """

    _target: Target = "self"

    def __new__(cls, process: StepProcess) -> _SubmittedRun:
        return object.__new__(cls)

    def __init__(self, process: StepProcess) -> None:
        self._process = process
        self._id = process.context.step_run_id

    @property
    def experiment(self) -> Experiment:
        """The experiment of the run."""
        return self._process.experiment

    @property
    def name(self) -> str:
        """The step's name as the user wrote it."""
        return self._process.context.step

    @property
    def type(self) -> str:
        """``azureml.StepRun``."""
        return "azureml.StepRun"

    @property
    def number(self) -> int:
        """Number of the pipeline run in its experiment, from 1."""
        return self.parent.number

    @property
    def status(self) -> str:
        """``Running``."""
        return "Running"

    @cached_property
    def parent(self) -> PipelineRun:
        """The pipeline run."""
        return _ParentRun(self._process)

    @property
    def pipeline_run_id(self) -> str:
        """Id of the pipeline run."""
        return self._process.context.run_id

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of the pipeline parameters that this step uses."""
        return dict(self._process.context.parameters)

    @cached_property
    def input_datasets(self) -> dict[str, Any]:
        """The dataset inputs by name: a path for mount and download, the dataset itself for direct."""
        ports = self._process.context.inputs
        return _Named("input dataset", {name: self._input(name) for name, port in ports.items() if port.as_dataset})

    @cached_property
    def output_datasets(self) -> dict[str, str]:
        """The paths of the outputs by name, as text."""
        return _Named("output dataset", {name: port.path for name, port in self._process.context.outputs.items()})

    def get_properties(self) -> dict[str, str]:
        """Return the properties by name: what the step wrote so far, and what v1 tells of a step run."""
        context = self._process.context
        about = {"azureml.runsource": "azureml.StepRun", "azureml.pipelinerunid": context.run_id}
        if context.snapshot:
            about["ContentSnapshotId"] = context.snapshot
        return {**about, **super().get_properties()}

    def get_details(self) -> dict[str, Any]:
        """Return everything known inside the step, under v1's keys."""
        context = self._process.context
        return {
            "runId": self.id,
            "status": self.status,
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [port.label or name for name, port in context.inputs.items() if port.as_dataset],
            "outputDatasets": [name for name, port in context.outputs.items() if port.kind == "dataset"],
            "logFiles": {},
        }

    def register_model(self, model_name: str, model_path: str | None = None, *args: Any, **kwargs: Any) -> Model:
        """Register a file or folder as a model: one the run keeps, else one in the working directory.

        ``./outputs`` is kept when the step has ended; until then its files are found where they are. For the
        arguments see :meth:`Run.register_model`.

        Raises:
            MissingDataError: if there is no such file or folder.
        """
        from airflow_mlpipe.sdk.model import Model

        try:
            return super().register_model(model_name, model_path, *args, **kwargs)
        except MissingDataError:
            local = Path(model_path or model_name)
            if not local.exists():
                raise
        names = ("tags", "properties", "model_framework", "model_framework_version", "description", "datasets")
        options = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
        return Model.register(self._workspace, local, model_name, **options)

    def cancel(self) -> None:
        """Cancel the pipeline run this step belongs to: one step alone cannot be cancelled."""
        self.parent.cancel()

    def fail(self, error_details: object = None, error_code: object = None, _set_status: bool = True) -> None:
        """Mark the step as failed, whatever its exit code will be. The script goes on until it ends.

        Args:
            error_details: why, for people.
            error_code: accepted as in v1; becomes part of the text.
            _set_status: accepted as in v1.
        """
        words = [str(word) for word in (error_code, error_details) if word]
        self._process.events.failure(": ".join(words) or "the step called Run.fail()")

    def _input(self, name: str) -> Any:
        port = self._process.context.inputs[name]
        if port.mode != "direct" or port.dataset is None:
            return port.path
        return self._process.dataset(name)

    def _written(self) -> Written:
        return read_events(Path(self._process.context.events)).own

    def _kept_files(self) -> Sequence[FileRecord]:
        return [*self._written().files, *self._process.laid_aside(self._target)]

    def _write(self, part: Written) -> None:
        self._process.events.write(part)

    def __repr__(self) -> str:
        return f"Run(id={self.id}, step={self.name})"


class _ParentRun(_Aside, PipelineRun):
    """The pipeline run, seen from inside one of its steps: writes are events, reads go to the catalog."""

    _target: Target = "parent"

    def __new__(cls, process: StepProcess) -> _ParentRun:
        return object.__new__(cls)

    def __init__(self, process: StepProcess) -> None:
        self._process = process
        self._id = process.context.run_id
        self._row = None

    @property
    def experiment(self) -> Experiment:
        """The experiment of the run."""
        return self._process.experiment

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self._process.context.pipeline

    def _known_properties(self) -> dict[str, str]:
        # What this step wrote: a write must not need the catalog.
        return read_events(Path(self._process.context.events)).parent.properties

    def _kept_files(self) -> Sequence[FileRecord]:
        # What other steps have kept is not known where the workspace is out of reach.
        return super()._kept_files() if self._process.aside is None else self._process.laid_aside(self._target)

    def _write(self, part: Written) -> None:
        self._process.events.write(part, target="parent")

    def __repr__(self) -> str:
        return f"PipelineRun(id={self.id}, pipeline={self.name})"


class _Named(dict[str, Any]):
    """A dictionary whose KeyError says what there is."""

    def __init__(self, kind: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._kind = kind

    def __missing__(self, name: str) -> Any:
        known = ", ".join(f"'{each}'" for each in self) or "none"
        raise KeyError(f"this step has no {self._kind} '{name}'; it has: {known}")


def run_of_this_process(*, allow_offline: bool) -> Run:
    """Return the run this process belongs to, or an offline run.

    Raises:
        ConfigError: if it belongs to none and `allow_offline` is False.
    """
    process = _process()
    if process is not None:
        return _SubmittedRun(process)
    if not allow_offline:
        raise ConfigError("this process does not run as a step (MLPIPE_CONTEXT is not set); run it through a pipeline")
    return _OfflineRun()


def events_of_this_process() -> EventsWriter | None:
    """Return the events file of the step this process belongs to, or None if it belongs to none."""
    process = _process()
    return None if process is None else process.events


def workspace_of_this_process() -> Workspace | None:
    """Return the workspace of the step this process belongs to, or None if it belongs to none."""
    process = _process()
    return None if process is None else process.workspace


def input_of_this_process(value: str) -> Any | None:
    """Return the dataset that the step this process belongs to reads through an object, by what its arguments say.

    Args:
        value: id of a registered version, or what stands for a dataset that is not registered.
    """
    process = _process()
    ports = {} if process is None else process.context.inputs
    for name, port in ports.items():
        if process is not None and port.mode == "direct" and port.dataset is not None and port.value == value:
            return process.dataset(name)
    return None


def _process() -> StepProcess | None:
    context = current_context()
    return None if context is None else _shared(context.step_run_id, context.events)


@cache
def _shared(step_run_id: str, events: str) -> StepProcess:
    # One writer per process and step, however often get_context() is called.
    context = current_context()
    assert context is not None
    return StepProcess(context)
