"""The run of one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, StepRow
from airflow_mlpipe.errors import NotFoundError, NotSupportedError
from airflow_mlpipe.model.data import DatasetSpec, DatasetView, DatastorePath, OutputSpec, StepOutputRef
from airflow_mlpipe.model.result import OutputRecord, StepResult, Written
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk.dataset import dataset_of
from airflow_mlpipe.sdk.live import live_written, work_folder
from airflow_mlpipe.sdk.metrics import merge
from airflow_mlpipe.sdk.output_data import PortDataReference, StepRunOutput
from airflow_mlpipe.sdk.run import Run, utc_text

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun

STATUS_WORDS = {
    "not_started": "NotStarted",
    "running": "Running",
    "completed": "Completed",
    "reused": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    # Final, unlike v1's NotStarted: who polls until a step has ended must come to an end.
    "not_run": "Canceled",
}
"""v1's word for each status of a step."""


class StepRun(Run):
    """The run of one step of a pipeline run.

    A reused step shows the metrics, tags, properties, files and logs of the run that computed its result.
    """

    def __init__(self, experiment: Experiment, run_id: str, *args: Any, **kwargs: Any) -> None:
        """Look at an existing step run.

        Args:
            experiment: the experiment it belongs to.
            run_id: its id.
            *args: accepted as in v1 (the pipeline run's id and the node's); they follow from `run_id`.
            **kwargs: accepted as in v1.

        Raises:
            NotFoundError: if the workspace has no such step run.
        """
        super().__init__(experiment, run_id)
        self._row: StepRow = kwargs.get("_row") or experiment.workspace.catalog.step_by_id(run_id)
        self._result: StepResult | None = None

    @property
    def name(self) -> str:
        """The step's name as the user wrote it."""
        return self._row.name

    @property
    def step_id(self) -> str:
        """Id of the step in the pipeline: its Airflow task."""
        return self._row.step_id

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
        """v1's status word; ``Completed`` on success, for a reused step too."""
        return STATUS_WORDS[self._refresh().status]

    @property
    def parent(self) -> PipelineRun:
        """The pipeline run."""
        from airflow_mlpipe.sdk.pipeline_run import PipelineRun

        return PipelineRun(self.experiment, self._row.run_id)

    @property
    def pipeline_run_id(self) -> str:
        """Id of the pipeline run."""
        return self._row.run_id

    @property
    def is_reused(self) -> bool:
        """Whether an earlier result stood in for running it."""
        return self._refresh().reused_from is not None

    @property
    def _is_reused(self) -> bool:
        # Code written for v1 reads this private name: it had no public one.
        return self.is_reused

    @property
    def reused_from(self) -> str | None:
        """Id of the pipeline run that computed the result it reused, or None."""
        return self._refresh().reused_from

    @property
    def reason(self) -> str:
        """Why it ran, or what it was reused from."""
        return self._refresh().reason

    @property
    def saved_s(self) -> float | None:
        """Seconds that reusing it saved, or None if it was not reused."""
        return self._refresh().saved_s

    @property
    def duration_s(self) -> float | None:
        """Seconds it ran, or None if it did not."""
        row = self._refresh()
        if row.started_at is None or row.ended_at is None or row.status == "reused":
            return None
        return (row.ended_at - row.started_at).total_seconds()

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._refresh().error

    @property
    def exit_code(self) -> int | None:
        """Exit code of its last try, negative for a signal, or None."""
        return self._refresh().exit_code

    @property
    def record(self) -> StepRow:
        """The catalog's row of it, as it is now."""
        return self._refresh()

    def get_properties(self) -> dict[str, str]:
        """Return the properties by name: what the step wrote, and what v1 tells of a step run."""
        row = self._refresh()
        about = {
            "azureml.runsource": "azureml.StepRun",
            "azureml.nodeid": row.step_id,
            "azureml.pipelinerunid": row.run_id,
        }
        if row.reused_from is not None:
            result = self._committed()
            about |= {
                "azureml.isreused": "true",
                "azureml.reusedrunid": result.step_run_id if result else "",
                "azureml.reusednodeid": self._reused_node(result),
                "azureml.reusedpipeline": row.reused_from,
                "azureml.reusedpipelinerunid": row.reused_from,
            }
        if (snapshot := self._spec().snapshot) is not None:
            about["ContentSnapshotId"] = snapshot
        return {**about, **super().get_properties()}

    def get_details(self) -> dict[str, Any]:
        """Return everything at once, under v1's keys."""
        row = self._refresh()
        spec = self._spec()
        details: dict[str, Any] = {
            "runId": self.id,
            "target": spec.compute or "local",
            "status": STATUS_WORDS[row.status],
            "startTimeUtc": utc_text(row.started_at),
            "endTimeUtc": utc_text(row.ended_at),
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [port.label or port.name for port in spec.inputs if port.as_dataset],
            "outputDatasets": [port.name for port in spec.outputs if port.kind == "dataset"],
            "logFiles": self._log_urls(),
        }
        if row.error:
            details["error"] = {"error": {"code": "UserError", "message": row.error}}
        return details

    @property
    def input_datasets(self) -> dict[str, AbstractDataset]:
        """The datasets it reads, by the name of the input: what its run was given, as it is now."""
        found = {}
        for port in self._spec().inputs:
            source = port.bound
            if isinstance(source, DatasetSpec):
                found[port.name] = dataset_of(self._workspace, source, dataset_id=port.dataset_id)
            elif port.as_dataset and isinstance(source, StepOutputRef):
                record = self.parent.step(source.step)._outputs().get(source.output)
                if record is not None:
                    found[port.name] = self._dataset(record, port.view)
        return found

    @property
    def output_datasets(self) -> dict[str, AbstractDataset]:
        """Its outputs as datasets, by name; empty before the step has ended well."""
        views = {port.name: port.register_as.view for port in self._spec().outputs if port.register_as is not None}
        return {name: self._dataset(record, views.get(name)) for name, record in self._outputs().items()}

    def get_outputs(self) -> dict[str, StepRunOutput]:
        """Return the outputs by name; empty before the step has ended well."""
        return {name: StepRunOutput(self._reference(record)) for name, record in self._outputs().items()}

    def get_output(self, name: str) -> StepRunOutput:
        """Return one output.

        Raises:
            NotFoundError: if there is none of that name.
        """
        return StepRunOutput(self.get_output_data(name))

    def get_output_data(self, name: str) -> PortDataReference:
        """Return where the data of one output lies.

        Raises:
            NotFoundError: if there is none of that name.
        """
        outputs = self._outputs()
        if name in outputs:
            return self._reference(outputs[name])
        self.declared_output(name)
        raise NotFoundError(f"output '{name}' of step '{self.name}' does not exist: the step is {self.status}")

    def declared_output(self, name: str) -> OutputSpec:
        """Return an output as the pipeline declares it.

        Raises:
            NotFoundError: if there is none of that name.
        """
        for port in self._spec().outputs:
            if port.name == name:
                return port
        declared = ", ".join(f"'{port.name}'" for port in self._spec().outputs) or "no outputs"
        raise NotFoundError(f"step '{self.name}' has no output '{name}'; it has: {declared}")

    def get_job_log(self) -> str:
        """Return the whole output of the step: what it wrote to stdout, then what it wrote to stderr."""
        return self.get_stdout_log() + self.get_stderr_log()

    def get_stdout_log(self) -> str:
        """Return what the step wrote to stdout."""
        return self._log_text("stdout")

    def get_stderr_log(self) -> str:
        """Return what the step wrote to stderr."""
        return self._log_text("stderr")

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float | None = None, raise_on_error: bool = True, **kwargs: Any
    ) -> str:
        """Wait until the step has ended.

        Args:
            show_output: whether to print its status and its end.
            timeout_seconds: seconds after which to stop waiting; the step goes on.
            raise_on_error: whether a failed step is an error here.
            **kwargs: accepted as in v1.

        Returns:
            ``Finished``, ``Failed`` or ``Canceled``; another word after the timeout.

        Raises:
            RunFailedError: if the step failed and `raise_on_error` is set.
        """
        from airflow_mlpipe.sdk.wait import wait_for_step

        return wait_for_step(self, show_output=show_output, timeout_s=timeout_seconds, raise_on_error=raise_on_error)

    def log_path(self) -> Path | None:
        """Return the file to read first: what it wrote to stderr if that is anything, else to stdout.

        None if the step never started.
        """
        errors = self.stream_path("stderr")
        return errors if errors is not None and errors.stat().st_size else self.stream_path("stdout")

    def log_place(self) -> Path | str | None:
        """Return where the file of :meth:`log_path` lies: a path of this machine, or a URL."""
        from airflow_mlpipe.execution.kept import STDERR, STDOUT
        from airflow_mlpipe.storage.urls import is_folder

        files = {file.name: file for file in self._written().files}
        if STDERR not in files or STDOUT not in files:
            return self.log_path()
        file = files[STDERR if files[STDERR].size_bytes else STDOUT]
        place = self._workspace.documents_in(file.datastore).shown(file.path)
        return Path(place) if is_folder(place) else place

    def cancel(self) -> None:
        """Refuse, as v1 does.

        Raises:
            NotSupportedError: always; cancel the pipeline run.
        """
        raise NotSupportedError(f"step '{self.name}' cannot be cancelled by itself; cancel its run: .parent.cancel()")

    def _refresh(self) -> StepRow:
        if self._row.status not in FINAL_STEP_STATUSES:
            self._row = self._workspace.catalog.step(self._row.run_id, self._row.step_id)
        return self._row

    def _spec(self) -> StepSpec:
        run = self.parent
        return run.spec.with_data(run.parameters).step_by_id[self._row.step_id]

    def _dataset(self, record: OutputRecord, view: DatasetView | None) -> AbstractDataset:
        place = DatastorePath(datastore=record.datastore, path=record.path)
        spec = (view or DatasetView(kind="file")).of(place, is_file=record.is_file)
        return dataset_of(self._workspace, spec)

    def _committed(self) -> StepResult | None:
        row = self._refresh()
        if self._result is None and row.result_id is not None and row.status in ("completed", "reused"):
            self._result = self._workspace.catalog.get_result(row.result_id)
        return self._result

    def _reused_node(self, result: StepResult | None) -> str:
        """Return the id that the step had in the pipeline which computed `result`; empty if that is not known."""
        try:
            return self._workspace.catalog.step_by_id(result.step_run_id).step_id if result else ""
        except NotFoundError:
            return ""

    def _outputs(self) -> dict[str, OutputRecord]:
        result = self._committed()
        return {record.name: record for record in result.outputs} if result else {}

    def _reference(self, record: OutputRecord) -> PortDataReference:
        return PortDataReference(self._workspace, record, self.id)

    def _written(self) -> Written:
        row = self._refresh()
        result = self._committed()
        if result is not None:
            own = result.written
        elif row.status == "running":
            own = live_written(self._workspace, self.id)[0]
        else:
            own = Written.model_validate(row.written)
        return merge([own, self._workspace.catalog.written_of(self.id)])

    def _write(self, part: Written) -> None:
        self._workspace.catalog.add_written(self.id, part)

    def _log_text(self, stream: str) -> str:
        path = self.stream_path(stream)
        return path.read_text(errors="replace") if path is not None else ""

    def _log_names(self) -> list[str]:
        return [name for name in self.get_file_names() if name.startswith(("logs/", "azureml-logs/"))]

    def stream_path(self, name: str) -> Path | None:
        """Return the file that holds ``stdout`` or ``stderr``, or None if the step never started."""
        from airflow_mlpipe.execution.kept import STDERR, STDOUT

        kept = STDOUT if name == "stdout" else STDERR
        if any(file.name == kept for file in self._written().files):
            return self._file(kept)
        path = work_folder(self._workspace, self.id) / f"{name}.txt"
        return path if path.is_file() else None
