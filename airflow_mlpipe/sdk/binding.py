"""The meeting point of all forms in which data is given to a step: what is read, how, and under which name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import AccessMode, DatasetSpec, DatasetView, DatastorePath, ParameterRef, RegisterSpec

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.parameter import PipelineParameter
    from airflow_mlpipe.sdk.steps import PipelineStep

MODES: tuple[AccessMode, ...] = get_args(AccessMode)

_PORT = re.compile(r"[A-Za-z0-9_]+")


class Consumed:
    """A form of data that a step can read."""

    def binding(self) -> Binding:
        """Return what it means as an input."""
        raise NotImplementedError


class Produced(Consumed):
    """Data that a step of the pipeline makes; the common part of PipelineData and OutputFileDatasetConfig.

    Attributes:
        output_name: the producer's port, or None for one that is named by its position in the step.
        input_name: the consumer's port if it does not say otherwise, or None likewise.
        kind: see :class:`~airflow_mlpipe.model.data.OutputSpec`.
        store: datastore that keeps it, or its name, or None for the pipeline's default.
        destination: the user's own place for a copy, or None.
        destination_parameters: the pipeline parameters in it.
        registration: as what it is registered once the step has succeeded, or None.
        pipeline_output_name: name under which it is an output of the whole pipeline, or None.
        claims: steps that have it among their outputs, in the order they were made.
        mentions: steps that have it in their arguments without saying whether they read or write it.
    """

    kind = "data"

    def __init__(self, output_name: str | None, input_name: str | None, store: Datastore | str | None) -> None:
        self.output_name = output_name
        self.input_name = input_name
        self.store = store
        self.destination: str | None = None
        self.destination_parameters: tuple[PipelineParameter, ...] = ()
        self.registration: RegisterSpec | None = None
        self.pipeline_output_name: str | None = None
        self.claims: list[PipelineStep] = []
        self.mentions: list[PipelineStep] = []


class OutputView(Consumed):
    """An output seen as a dataset.

    Attributes:
        data: the output.
        consumed: whether it was said that a step reads it; else it may stand for the output itself.
    """

    def __init__(self, data: Produced, binding: Binding, *, consumed: bool) -> None:
        self.data = data
        self.consumed = consumed
        self._binding = binding

    def binding(self) -> Binding:
        """Return what it means as an input."""
        return self._binding


@dataclass(frozen=True, slots=True)
class Binding:
    """An input of a step as the author wrote it.

    Attributes:
        source: what is read.
        name: wanted name of the port; None lets the compiler derive one.
        fixed: whether `name` is the user's own word, to be kept as it is.
        mode: how the step gets it.
        explicit: whether the user said `mode`; an unsaid one yields to a said one.
        path_on_compute: where the step wants to find it, or None.
        as_dataset: see :class:`~airflow_mlpipe.model.data.InputSpec`.
        label: likewise.
        dataset_id: likewise.
        view: likewise.
        parameter: the pipeline parameter that names it, for such a source.
        stores: the datastores it lies in, for sources outside of the pipeline.
    """

    source: Produced | DatasetSpec | DatastorePath | ParameterRef
    name: str | None = None
    fixed: bool = False
    mode: AccessMode = "mount"
    explicit: bool = False
    path_on_compute: str | None = None
    as_dataset: bool = False
    label: str = ""
    dataset_id: str | None = None
    view: DatasetView | None = None
    parameter: PipelineParameter | None = field(default=None, compare=False)
    stores: tuple[Datastore, ...] = field(default=(), compare=False)

    def read(self, mode: AccessMode, path_on_compute: str | None = None) -> Binding:
        """Return it read in this mode."""
        return replace(self, mode=mode, explicit=True, path_on_compute=path_on_compute or self.path_on_compute)

    def named(self, name: str) -> Binding:
        """Return it under this name."""
        return replace(self, name=port_name(name, "input"), fixed=True)


def port_name(name: object, what: str) -> str:
    """Return `name` if it may name a port: it becomes an environment variable and a folder.

    Raises:
        ParameterError: if it may not.
    """
    if not isinstance(name, str) or not _PORT.fullmatch(name):
        raise ParameterError(f"{what} name {name!r} is not allowed; use letters, digits and '_'")
    return name


def access_mode(mode: object, what: str) -> AccessMode:
    """Return `mode` if it is one.

    Raises:
        ParameterError: if it is not.
    """
    for known in MODES:
        if mode == known:
            return known
    raise ParameterError(f"{what}: mode {mode!r} is not allowed; allowed are {', '.join(MODES)}")
