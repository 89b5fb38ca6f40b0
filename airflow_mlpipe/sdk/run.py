"""A run: what it wrote, what it keeps, and how it stands."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_mlpipe.errors import MissingDataError, NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.model.result import FileRecord, Written
from airflow_mlpipe.sdk.children import Children
from airflow_mlpipe.sdk.metrics import fold
from airflow_mlpipe.sdk.writing import RunWriter

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.sdk.workspace import Workspace

FINAL_WORDS = frozenset({"Completed", "Finished", "Failed", "Canceled"})
"""The status words after which a run does not change any more."""


class Run(RunWriter):
    """One run of an experiment: a pipeline's (:class:`PipelineRun`) or a step's (:class:`StepRun`).

    ``Run(experiment, run_id)`` gives the one that `run_id` is. Inside a step, :meth:`get_context` gives the step's
    own run.
    """

    def __new__(cls, experiment: Experiment | None = None, run_id: str = "", *args: Any, **kwargs: Any) -> Self:
        """Make the object for `run_id`: asked for a plain ``Run``, find out which kind it is."""
        if cls is not Run or experiment is None:
            return super().__new__(cls)
        return object.__new__(_class_of(experiment.workspace, run_id))  # type: ignore[return-value]

    def __init__(self, experiment: Experiment, run_id: str, outputs: object = None, **kwargs: Any) -> None:
        """Look at an existing run.

        Args:
            experiment: the experiment it belongs to.
            run_id: its id.
            outputs: accepted as in v1; ``./outputs`` is always kept.
            **kwargs: accepted as in v1.

        Raises:
            NotFoundError: if the workspace has no such run.
        """
        self._experiment = experiment
        self._id = run_id

    @staticmethod
    def get_context(allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any) -> Run:
        """Return the run this code runs in.

        Outside a run an offline run stands in, whose ``log`` prints.

        Args:
            allow_offline: False to have an error instead of an offline run.
            used_for_context_manager: accepted as in v1.
            **kwargs: accepted as in v1.

        Raises:
            ConfigError: outside a run, if `allow_offline` is False.
        """
        from airflow_mlpipe.sdk.step_context import run_of_this_process

        return run_of_this_process(allow_offline=allow_offline)

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """Return the run with that id, a pipeline's or a step's.

        Raises:
            NotFoundError: if the workspace has no such run.
        """
        from airflow_mlpipe.sdk.experiment import Experiment

        experiment = Experiment(workspace, _experiment_of(workspace, run_id))
        return _class_of(workspace, run_id)(experiment, run_id)

    @property
    def id(self) -> str:
        """The run's id, a UUID."""
        return self._id

    @property
    def experiment(self) -> Experiment:
        """The experiment it belongs to."""
        return self._experiment

    @property
    @abstractmethod
    def name(self) -> str:
        """The name shown to people."""

    @property
    def display_name(self) -> str:
        """The name shown to people."""
        return self.name

    @property
    @abstractmethod
    def type(self) -> str:
        """v1's run type: ``azureml.PipelineRun`` or ``azureml.StepRun``."""

    @property
    @abstractmethod
    def number(self) -> int:
        """Position among the runs of the experiment, from 1; a step has its pipeline run's."""

    @property
    @abstractmethod
    def status(self) -> str:
        """v1's status word; ``Completed`` on success."""

    @property
    @abstractmethod
    def parent(self) -> Run | None:
        """The pipeline run a step belongs to; None for a pipeline run."""

    @property
    def tags(self) -> dict[str, str]:
        """The tags by name."""
        return self.get_tags()

    @property
    def properties(self) -> dict[str, str]:
        """The properties by name."""
        return self.get_properties()

    def get_status(self) -> str:
        """Return the status word. Pipeline and step runs say ``Finished`` where :attr:`status` says ``Completed``."""
        return "Finished" if self.status == "Completed" else self.status

    def get_tags(self) -> dict[str, str]:
        """Return the tags by name."""
        return dict(self._written().tags)

    def get_properties(self) -> dict[str, str]:
        """Return the properties by name."""
        return dict(self._written().properties)

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: object = None, populate: bool = False
    ) -> dict[str, Any]:
        """Return the metrics by name, those of a running step included.

        Args:
            name: only this one.
            recursive: also those of the steps; the answer is then ``{run id: metrics}``.
            run_type: accepted as in v1.
            populate: accepted as in v1; images come as the name of their file, see :meth:`download_file`.
        """
        own = fold(record for record in self._written().metrics if name is None or record.name == name)
        if not recursive:
            return own
        found = {self.id: own, **{child.id: child.get_metrics(name) for child in self.get_children()}}
        return {run_id: metrics for run_id, metrics in found.items() if metrics}

    def get_children(self, recursive: bool = False, **kwargs: Any) -> Children[Any]:
        """Return the runs below this one."""
        return Children()

    def get_file_names(self) -> list[str]:
        """Return the names of the files the run keeps: ``./outputs``, ``./logs`` and uploads."""
        return sorted(file.name for file in self._kept_files())

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        """Copy one of the run's files.

        Args:
            name: as :meth:`get_file_names` says it.
            output_file_path: target file or existing folder; default is the file's own name in the working directory.
            **kwargs: accepted as in v1.

        Raises:
            NotFoundError: if the run has no such file.
        """
        source = self._file(name)
        target = Path(output_file_path) if output_file_path is not None else Path(Path(name).name)
        if target.is_dir() or str(output_file_path).endswith("/"):
            target = target / Path(name).name
        _copy(source, target)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | os.PathLike[str] | None = None,
        output_paths: list[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """Copy the run's files, or those below `prefix`.

        Args:
            prefix: folder or beginning of the names, e.g. ``outputs``.
            output_directory: folder they go to; default is the working directory.
            output_paths: target of each file instead, in the order of their sorted names.
            batch_size: accepted as in v1.
            append_prefix: False to leave `prefix` out of the target names.
            timeout_seconds: accepted as in v1.

        Raises:
            ParameterError: if `output_paths` has not one path for each file.
        """
        names = [name for name in self.get_file_names() if prefix is None or name.startswith(prefix)]
        folder = Path(output_directory or ".")
        short = [name if append_prefix or prefix is None else name[len(prefix) :].lstrip("/") for name in names]
        targets = [folder / name for name in short] if output_paths is None else [Path(path) for path in output_paths]
        if len(targets) != len(names):
            raise ParameterError(
                f"download_files: {len(names)} files but {len(targets)} output_paths; they go in pairs"
            )
        for name, target in zip(names, targets, strict=True):
            _copy(self._file(name), target)

    @abstractmethod
    def get_details(self) -> dict[str, Any]:
        """Return everything at once, under v1's keys (``runId``, ``status``, ``startTimeUtc``, ...)."""

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return :meth:`get_details` with the text of each log file in ``logFiles``."""
        details = self.get_details()
        logs = {name: self._file(name).read_text(errors="replace") for name in details["logFiles"]}
        return {**details, "logFiles": logs}

    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> list[str]:
        """Copy all log files to `destination` (default: the working directory) and return their paths."""
        folder = Path(destination or ".")
        paths = []
        for name in self._log_names():
            _copy(self._file(name), folder / name)
            paths.append(str(folder / name))
        return paths

    def get_portal_url(self) -> str:
        """Return a link to the run. Without a server this is the workspace's folder and the run's id."""
        return f"{self._workspace.dir.resolve().as_uri()}?run={self.id}"

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: object = None,
        **kwargs: Any,
    ) -> Model:
        """Register files of the run as a model.

        Args:
            model_name: name of the model; a new version is made.
            model_path: a file or folder among the run's files, e.g. ``outputs/model.pkl``; default is a file or
                folder called like the model.
            tags: free texts by name.
            properties: fixed texts by name.
            model_framework: e.g. ``ScikitLearn``.
            model_framework_version: its version.
            description: free text.
            datasets: accepted as in v1; not kept.
            **kwargs: accepted as in v1.

        Raises:
            MissingDataError: if the run keeps no such file or folder.
        """
        from airflow_mlpipe.sdk.model import register_files

        name = (model_path or model_name).replace("\\", "/").removeprefix("./").rstrip("/")
        files = {
            file.name.removeprefix(name).lstrip("/") or Path(name).name: self._file(file.name)
            for file in self._kept_files()
            if file.name == name or file.name.startswith(f"{name}/")
        }
        if not files:
            kept = ", ".join(self.get_file_names()) or "no files"
            raise MissingDataError(f"model '{model_name}': run {self.id} keeps no '{name}'; it keeps: {kept}")
        return register_files(
            self._workspace, model_name, files, run_id=self.id, tags=tags, properties=properties,
            framework=model_framework, framework_version=model_framework_version, description=description,
            folder=None if list(files) == [Path(name).name] else Path(name).name,
        )  # fmt: skip

    def cancel(self) -> None:
        """Ask the run to end."""
        raise NotSupportedError(f"run {self.id}: only a pipeline run can be cancelled; cancel its parent")

    def complete(self, _set_status: bool = True) -> None:
        """Do nothing: a run is complete when its process has ended well."""

    def fail(self, error_details: object = None, error_code: object = None, _set_status: bool = True) -> None:
        """Mark the run as failed."""
        raise NotSupportedError(f"run {self.id}: only a step can fail itself, through Run.get_context().fail()")

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: object = None) -> Run:
        """Refuse: there are no runs below a step."""
        raise NotSupportedError("child_run() is not supported; a step is the smallest unit, log to it or to its parent")

    def create_children(self, *args: Any, **kwargs: Any) -> list[Run]:
        """Refuse: there are no runs below a step."""
        raise NotSupportedError("create_children() is not supported; make a step of each part instead")

    def submit_child(self, *args: Any, **kwargs: Any) -> Run:
        """Refuse: there are no runs below a step."""
        raise NotSupportedError("submit_child() is not supported; make a step of it instead")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id}, name={self.name}, status={self.status})"

    @property
    def _workspace(self) -> Workspace:
        return self.experiment.workspace

    @abstractmethod
    def _written(self) -> Written:
        """Return all that was written to the run so far."""

    def _kept_files(self) -> Sequence[FileRecord]:
        """Return the files that the run keeps."""
        return self._written().files

    def _known_properties(self) -> Mapping[str, str]:
        return self._written().properties

    def _log_names(self) -> list[str]:
        return [name for name in self.get_file_names() if name.startswith("logs/")]

    def _file(self, name: str) -> Path:
        """Return where a file of the run lies."""
        for file in self._kept_files():
            if file.name == name:
                return self._here(file)
        raise self._no_file(name)

    def _here(self, file: FileRecord) -> Path:
        """Return the path of a file of the run on this machine: where it lies, or a copy for as long as we live."""
        from airflow_mlpipe.storage.datastore import LocalStore

        store = self._workspace.documents_in(file.datastore)
        if isinstance(store, LocalStore):
            return store.path_of(file.path)
        copy = self._workspace.scratch / file.path
        store.copy_out(file.path, copy)
        return copy

    def _log_urls(self) -> dict[str, str]:
        """Return where each log of the run lies, by name."""
        files = {file.name: file for file in self._written().files}
        return {
            name: self._workspace.documents_in(files[name].datastore).url_of(files[name].path)
            for name in self._log_names()
        }

    def _no_file(self, name: str) -> NotFoundError:
        kept = ", ".join(self.get_file_names()) or "none"
        return NotFoundError(f"run {self.id} has no file '{name}'; it has: {kept}")

    def _keep(self, name: str, source: Path | bytes) -> None:
        store = self._workspace.default_store
        path = f"runs/{self.id}/{name}"
        if isinstance(source, bytes):
            size = len(source)
            store.write_bytes(path, source)
        else:
            size = source.stat().st_size
            store.copy_in(source, path)
        self._write(Written(files=(FileRecord(name=name, datastore=store.name, path=path, size_bytes=size),)))


def utc_text(moment: datetime | None) -> str | None:
    """Return a time as v1's details say it, e.g. ``2026-01-01T12:00:00.000000Z``."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _copy(source: Path, target: Path) -> None:
    import shutil

    target.parent.mkdir(parents=True, exist_ok=True)
    # Content only: kept files are read-only, the user's copy is not.
    shutil.copyfile(source, target)


def _class_of(workspace: Workspace, run_id: str) -> type[Run]:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.script_run import MARK, ScriptRun
    from airflow_mlpipe.sdk.step_run import StepRun

    catalog = workspace.catalog
    try:
        catalog.get_run(run_id)
    except NotFoundError:
        of_script = MARK in catalog.get_run(catalog.step_by_id(run_id).run_id).properties
        return ScriptRun if of_script else StepRun
    return PipelineRun


def _experiment_of(workspace: Workspace, run_id: str) -> str:
    catalog = workspace.catalog
    try:
        return catalog.get_run(run_id).experiment
    except NotFoundError:
        pass
    try:
        return catalog.get_run(catalog.step_by_id(run_id).run_id).experiment
    except NotFoundError:
        raise NotFoundError(f"workspace '{workspace.name}' has no run '{run_id}'; 'mlpipe runs' lists them") from None
