"""What the engine and the two ends of a pod tell each other, as documents of the default datastore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe import errors
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.execution.contract import ContextWorkspace, RunIdentity, StagedInput, StepContext, StepJob
from airflow_mlpipe.execution.direct import copies_of, folder_at, folder_of, sources_of
from airflow_mlpipe.execution.distribution import nodes_of, ranks_on
from airflow_mlpipe.execution.kept import Kept
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.parameter import ParameterValue
from airflow_mlpipe.model.result import ObservedInput, OutputRecord, WantedModel, Written
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.urls import is_folder

VARIABLE = "MLPIPE_POD"
"""Environment variable of the pod's two ends: a :class:`OrderPlace` as JSON."""


class PodStore(Frozen):
    """A datastore, as a pod reaches it.

    Attributes:
        name: in the workspace.
        url: its place.
        options: of its scheme, without secrets.
    """

    name: str
    url: str
    options: dict[str, JsonValue] = {}


class OrderPlace(Frozen):
    """Where a pod finds its order, and leaves its answer.

    Attributes:
        store: the default datastore.
        folder: in it, of this pod alone, or of the pods that are the nodes of one try.
        node: which of them the pod is.
    """

    store: PodStore
    folder: str
    node: int = 0

    @property
    def order(self) -> str:
        """Path of the order."""
        return f"{self.folder}/order.json"

    @property
    def answer(self) -> str:
        """Path of the answer."""
        return f"{self.folder}/answer.json" if self.node == 0 else f"{self.folder}/answer-{self.node}.json"

    @property
    def meeting(self) -> str:
        """What this node says of where it is."""
        return f"{self.folder}/node-{self.node}.json"

    def of_node(self, node: int) -> OrderPlace:
        """Return the place of another node of the try."""
        return self.model_copy(update={"node": node})


class PodInput(Frozen):
    """What is known of an input before the step starts; see :class:`~airflow_mlpipe.execution.contract.StagedInput`."""

    digest: Digest
    record: OutputRecord | None = None


class PodRun(Frozen):
    """Which run a step belongs to; see :class:`~airflow_mlpipe.execution.contract.RunIdentity`."""

    run_id: str
    step_run_id: str
    experiment: str
    pipeline: str
    workspace: str
    about: ContextWorkspace = ContextWorkspace()
    parameters: dict[str, ParameterValue] = {}

    def identity(self) -> RunIdentity:
        """Return it as staging takes it."""
        return RunIdentity(**{**dict(self), "workspace": Path(self.workspace)})


class PodOrder(Frozen):
    """One try of a step, to be carried out in a pod.

    Attributes:
        step: the step.
        run: which run it belongs to.
        inputs: what is known of each input port.
        number: of the try that made the pod, from 1; a later try may take the pod over.
        work: folder of the try in the pod.
        own: folder in the pod that the step's container does not see.
        context: what the step's process is told: every place was decided before the pod was made.
        laid: where each input that has a path is laid out; not where the step finds it if it wants it elsewhere.
        stores: the datastores that the step needs.
        defaults: names of the default datastore, and of those that were it before.
        lent: datastores whose credentials the step is lent although it does not name them.
    """

    step: StepSpec
    run: PodRun
    inputs: dict[str, PodInput]
    number: int = 1
    work: str
    own: str
    context: StepContext
    laid: dict[str, str] = {}
    stores: tuple[PodStore, ...]
    defaults: tuple[str, ...]
    lent: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """Identity of what is to be done: the same for each try of a step run unless something has changed."""
        return digest_json("pod order", self.model_dump(mode="json", exclude={"number"}))

    @property
    def nodes(self) -> int:
        """How many pods carry it out together."""
        return nodes_of(self.step, self.run.parameters)

    def ranks_of(self, node: int) -> list[int]:
        """Return the ranks of a node; none if the step has no ranks."""
        return ranks_on(self.step, self.run.parameters, node)

    @property
    def staged(self) -> dict[str, StagedInput]:
        """The inputs as staging takes them."""
        return {name: StagedInput(known.digest, known.record) for name, known in self.inputs.items()}

    @property
    def shown(self) -> list[str]:
        """What of datastores the step finds at its own place, because it reads that through objects."""
        copied, staged = copies_of(self.context.stores, Path(self.work)), self.staged
        return [
            str(folder_at(source.datastore, self.context.stores[source.datastore]).path_of(folder_of(source)))
            for port in self.step.inputs
            for source in sources_of(port, staged[port.name])
            if source.datastore not in copied and is_folder(self.context.stores.get(source.datastore, "sql://"))
        ]

    @property
    def aside(self) -> str:
        """Folder of a datastore in which is laid aside what the step has written to a DataReference."""
        return f"runs/{self.run.step_run_id}/references"

    def job(self, work: Path | None = None) -> StepJob:
        """Return the try as its end needs it.

        Args:
            work: folder of the try; by default the one in the pod.
        """
        return StepJob(
            step=self.step,
            argv=[],
            env={},
            work=work or Path(self.work),
            context=self.context,
            outputs={name: Path(output.path) for name, output in self.context.outputs.items()},
            inputs=self.staged,
        )


class PodError(Frozen):
    """An error of this package that was raised in a pod.

    Attributes:
        kind: name of its class.
        message: its text.
    """

    kind: str
    message: str

    @classmethod
    def of(cls, error: MlpipeError) -> PodError:
        """Write an error down."""
        return cls(kind=type(error).__name__, message=error.message)

    def error(self) -> MlpipeError:
        """Return the error, to be raised here."""
        kind: Any = getattr(errors, self.kind, MlpipeError)
        return MlpipeError(self.message) if kind is errors.StepFailedError else kind(self.message)


class PodAnswer(Frozen):
    """What a pod says of its try. It does not know how the step's process ended.

    Attributes:
        whole: False while outputs are still being committed; the rest is of use even then.
        written: metrics, tags, properties and files of the step.
        parent_written: what it wrote to its parent run.
        observed: what it looked up by name.
        failure: what it said when it called itself failed, or None.
        models: what it wants to have registered.
        warnings: what could not be kept.
        outputs: its committed outputs; of one of several nodes the parts that it has written.
        references: inputs that it has written to, and whose datastores hold that aside.
        places: of one of several nodes what it has written to these, as a kept list of places for each datastore.
        error: why there is no result, or None.
        failed_rank: which of its ranks failed first, and how, or None.
        failed_at_s: when that was, by the clock of its node, in seconds since the epoch.
    """

    whole: bool = True
    written: Written = Written()
    parent_written: Written = Written()
    observed: tuple[ObservedInput, ...] = ()
    failure: str | None = None
    models: tuple[WantedModel, ...] = ()
    warnings: tuple[str, ...] = ()
    outputs: tuple[OutputRecord, ...] = ()
    references: tuple[str, ...] = ()
    places: dict[str, Digest] = {}
    error: PodError | None = None
    failed_rank: str | None = None
    failed_at_s: float | None = None

    @classmethod
    def of(cls, kept: Kept, **fields: Any) -> PodAnswer:
        """Return an answer with what was kept."""
        return cls(
            written=kept.written,
            parent_written=kept.parent_written,
            observed=kept.observed,
            failure=kept.failure,
            models=kept.models,
            warnings=kept.warnings,
            **fields,
        )

    def kept(self, log: Path | str = "") -> Kept:
        """Return what was kept; `log` is where the kept file with what the step printed is."""
        return Kept(
            self.written, self.parent_written, self.observed, self.failure, log, self.warnings, models=self.models
        )


def by_name(stores: tuple[PodStore, ...]) -> Mapping[str, PodStore]:
    """Return datastores by their names."""
    return {store.name: store for store in stores}
