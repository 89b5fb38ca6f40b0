"""What a step is given, and what the engine hands from stage to launch to collect.

The context document is the border between this package and the user's process: a JSON file that
``MLPIPE_CONTEXT`` names. Everything else here stays on the engine's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.data import AccessMode, DatasetSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.parameter import ParameterValue
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.model.step import StepSpec

if TYPE_CHECKING:
    from airflow_mlpipe.execution.references import RemoteReference
    from airflow_mlpipe.storage.mount import RemoteMount

PROTOCOL_VERSION = 1
"""Version of :class:`StepContext`. A process that meets a newer one refuses it rather than half understand it."""


class ContextInput(Frozen):
    """An input port, as the step's process sees it.

    Attributes:
        path: where it lies; None for a dataset in mode ``direct``, which is read through its object only.
        mode: how the step gets it.
        as_dataset: whether it belongs into ``Run.input_datasets``.
        dataset: what a dataset is made of. A step output that is consumed as a dataset is the file dataset of
            its place; other inputs have none.
        dataset_id: id of the registered dataset version, if it is one.
        label: how the source is called towards people.
        value: what stands for it in the step's arguments.
    """

    path: str | None = None
    mode: AccessMode = "mount"
    as_dataset: bool = False
    dataset: DatasetSpec | None = None
    dataset_id: str | None = None
    label: str = ""
    value: str


class ContextOutput(Frozen):
    """An output port, as the step's process sees it.

    Attributes:
        path: where it has to be written.
        datastore: name of the datastore that keeps it.
        kind: see :class:`~airflow_mlpipe.model.data.OutputSpec`.
    """

    path: str
    datastore: str
    kind: str


class ContextWorkspace(Frozen):
    """What a workspace is called, for a step that does not reach it; see ``WorkspaceConfig``."""

    name: str = ""
    id: str = ""
    subscription_id: str = ""
    resource_group: str = ""
    location: str = ""


class StepContext(Frozen):
    """The document that ``MLPIPE_CONTEXT`` names.

    Attributes:
        protocol_version: see :data:`PROTOCOL_VERSION`.
        run_id: id of the pipeline run.
        step_run_id: id of the step run.
        experiment: name of the experiment.
        pipeline: name of the pipeline.
        step: the step's name as the user wrote it.
        workspace: the workspace's own folder, through which datasets and models are looked up.
        about: what the workspace is called.
        stores: where the datastores of its direct datasets are found, as URLs by name, if it does not reach the
            workspace.
        parameters: bound values of the pipeline parameters the step uses; the others are kept from it, because
            its result would then depend on something that is not in its key.
        inputs: by port.
        outputs: by port.
        events: file that metrics, tags, properties and files are appended to.
        snapshot: digest of the code, or None if the step has none.
    """

    protocol_version: int = PROTOCOL_VERSION
    run_id: str
    step_run_id: str
    experiment: str
    pipeline: str
    step: str
    workspace: str
    about: ContextWorkspace = ContextWorkspace()
    stores: dict[str, str] = {}
    parameters: dict[str, ParameterValue] = {}
    inputs: dict[str, ContextInput] = {}
    outputs: dict[str, ContextOutput] = {}
    events: str
    snapshot: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which run of what a step belongs to.

    Attributes:
        run_id: id of the pipeline run.
        step_run_id: id of the step run.
        experiment: name of the experiment.
        pipeline: name of the pipeline.
        workspace: the workspace's own folder.
        parameters: bound values of all of the pipeline's parameters.
        about: what the workspace is called.
    """

    run_id: str
    step_run_id: str
    experiment: str
    pipeline: str
    workspace: Path
    parameters: Mapping[str, ParameterValue]
    about: ContextWorkspace = ContextWorkspace()


@dataclass(frozen=True, slots=True)
class StagedInput:
    """What is known about an input before the step starts; what it is compared with afterwards.

    Attributes:
        digest: its content when the step's key was computed (the digest in the fingerprint).
        record: the producing step's output, for an input that is one; None for datasets and DataReferences.
    """

    digest: Digest
    record: OutputRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepJob:
    """One try of one step, ready to be launched.

    Attributes:
        step: what it is.
        argv: the process's arguments; a shell line is resolved to the shell's own arguments.
        env: the process's whole environment.
        work: folder of this try.
        context: what its process is told.
        outputs: where each output port has to be written.
        inputs: what the inputs were.
        references: DataReferences to datastores elsewhere, which the step may write to.
        links: symbolic links outside of `work` that were made for the step (``path_on_compute``).
        needs: commands that its process starts in turn, which have to be there as well.
        mounts: what its process reads of datastores elsewhere; they last until :meth:`close_mounts`.
    """

    step: StepSpec
    argv: list[str]
    env: dict[str, str]
    work: Path
    context: StepContext
    outputs: Mapping[str, Path]
    inputs: Mapping[str, StagedInput]
    references: tuple[RemoteReference, ...] = ()
    links: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    mounts: tuple[RemoteMount, ...] = ()

    def close_mounts(self) -> None:
        """Take the mounts away; a process that still reads there gets errors. Doing it twice is fine."""
        for mount in self.mounts:
            mount.close()

    @property
    def mount_trouble(self) -> str | None:
        """Why a read of a mount failed first, or None."""
        return next((mount.troubles[0] for mount in self.mounts if mount.troubles), None)

    @property
    def cwd(self) -> Path:
        """The process's working directory: a fresh copy of the snapshot."""
        return self.work / "code"

    @property
    def context_file(self) -> Path:
        """Where `context` is written for the process."""
        return self.work / "context.json"

    @property
    def events(self) -> Path:
        """What the process wrote to its run, one JSON document a line."""
        return self.work / "events.jsonl"

    @property
    def stdout(self) -> Path:
        """What the process prints."""
        return self.work / "stdout.txt"

    @property
    def stderr(self) -> Path:
        """What the process prints as errors."""
        return self.work / "stderr.txt"


def step_run_folder(workspace: Path, step_run_id: str) -> Path:
    """Return the folder of all tries of a step run, in the workspace's own folder."""
    return workspace / "work" / step_run_id


def try_folder(workspace: Path, step_run_id: str, number: int) -> Path:
    """Return the folder of a try of a step run, counted from 1."""
    return step_run_folder(workspace, step_run_id) / f"try-{number}"


def latest_try(workspace: Path, step_run_id: str) -> Path | None:
    """Return the folder of the latest try of a step run, or None: it never started, or is cleaned up."""
    tries = [
        (int(number), folder)
        for folder in step_run_folder(workspace, step_run_id).glob("try-*")
        if (number := folder.name.removeprefix("try-")).isdecimal()
    ]
    return max(tries)[1] if tries else None
