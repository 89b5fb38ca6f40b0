"""Where data comes from and where it goes: paths in datastores, datasets, ports of a step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import model_validator

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.operation import FILE_OPERATIONS, Operation

AccessMode = Literal["direct", "mount", "download"]
"""How a step gets an input: ``direct`` (an object through ``Run``), ``mount`` (a path, read-only) or
``download`` (a path, a private writable copy)."""


def normalise_path(path: str) -> str:
    """Return `path` relative to a datastore's root: posix, without ``.`` and ``..`` and outer slashes.

    A leading slash means the store's root, as in v1. The root itself is the empty string.

    Raises:
        ParameterError: if the path leaves the store.
    """
    kept: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            kept.append(part)
        elif kept:
            kept.pop()
        else:
            raise ParameterError(
                f"path '{path}' leaves its datastore; use a path inside the store, without leading '..'"
            )
    return "/".join(kept)


class DatastorePath(Frozen):
    """A file, a folder or a glob inside a datastore.

    Attributes:
        datastore: name of a datastore in the workspace, or ``https://host`` (see :func:`is_web`) for the web.
        path: normalised relative path (see :func:`normalise_path`); empty for the root.
    """

    datastore: str
    path: str = ""


def is_web(datastore: str) -> bool:
    """Whether the name of a datastore is the address of a web server: such a one is registered nowhere."""
    return datastore.startswith(("https://", "http://"))


class DatasetSpec(Frozen):
    """The definition of a dataset. Its identity when used is the content of `sources`, `options` and `operations`.

    Attributes:
        kind: ``file`` or ``tabular``.
        sources: what it is made of, in the order given.
        options: how a tabular dataset is read (``format``, ``separator``, ``header``, ...); for files at most the
            ``partition_format``.
        operations: what is done to its rows, or files, when it is read, in order.
    """

    kind: Literal["file", "tabular"]
    sources: tuple[DatastorePath, ...]
    options: dict[str, JsonValue] = {}
    operations: tuple[Operation, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_operations(self.kind, self.operations)
        return self

    @property
    def query(self) -> str | None:
        """The SQL query that a table is the answer of; its only source is the database. None for files."""
        return self.options.get("query") if self.options.get("format") == "sql" else None


class DatasetView(Frozen):
    """The way in which an output of another step is read as a dataset.

    Attributes:
        kind: ``file`` or ``tabular``.
        options: see :class:`DatasetSpec`.
        operations: likewise.
        glob: pattern of the files in the output that belong to it; None for all.
    """

    kind: Literal["file", "tabular"]
    options: dict[str, JsonValue] = {}
    operations: tuple[Operation, ...] = ()
    glob: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_operations(self.kind, self.operations)
        return self

    def of(self, place: DatastorePath, *, is_file: bool = False) -> DatasetSpec:
        """Return the dataset at `place`; `is_file` if that is a single file, which no pattern narrows."""
        if self.glob is not None and not is_file:
            place = DatastorePath(datastore=place.datastore, path=f"{place.path}/{self.glob}".lstrip("/"))
        return DatasetSpec(kind=self.kind, sources=(place,), options=self.options, operations=self.operations)


def _check_operations(kind: str, operations: tuple[Operation, ...]) -> None:
    refused = [operation.kind for operation in operations if kind == "file" and operation.kind not in FILE_OPERATIONS]
    if refused:
        raise ValueError(f"a dataset of files has no operation '{refused[0]}'")


class ParameterRef(Frozen):
    """Data that a pipeline parameter names: a run reads what it was given.

    Attributes:
        parameter: name of the parameter.
    """

    parameter: str


class StepOutputRef(Frozen):
    """An output port of another step of the same pipeline.

    Attributes:
        step: id of the producing step.
        output: name of its output port.
    """

    step: str
    output: str


class InputSpec(Frozen):
    """An input port of a step.

    Attributes:
        name: port name; unique among the inputs of the step.
        source: what is read.
        mode: how the step gets it.
        path_on_compute: where the step wants to find it, or None for a place of our choice.
        as_dataset: whether the step sees it as a dataset: environment variable ``<name>`` as well, and
            listed in ``Run.input_datasets``.
        label: how the source is called towards people, e.g. ``dataset diabetes v2``; not in the identity.
        dataset_id: id of the registered dataset version, which ``direct`` passes in the arguments.
        view: how an output of another step is read as a dataset; None for its files as they are.
    """

    name: str
    source: StepOutputRef | DatasetSpec | DatastorePath | ParameterRef
    mode: AccessMode = "mount"
    path_on_compute: str | None = None
    as_dataset: bool = False
    label: str = ""
    dataset_id: str | None = None
    view: DatasetView | None = None

    @property
    def bound(self) -> StepOutputRef | DatasetSpec | DatastorePath:
        """What is read in a run, which carries out ``PipelineSpec.with_data``: no reference to a parameter."""
        assert not isinstance(self.source, ParameterRef), f"input '{self.name}' is not bound to data"
        return self.source


class RegisterSpec(Frozen):
    """Registration of an output as a dataset once its step has succeeded.

    Attributes:
        name: name of the dataset; a new version is made of each different content.
        description: free text.
        tags: free texts by name.
        kind: ``file`` or ``tabular``; with ``tabular``, `options` say how it is read.
        options: see :class:`DatasetSpec`.
        operations: likewise.
        glob: see :class:`DatasetView`.
    """

    name: str
    description: str = ""
    tags: dict[str, str] = {}
    kind: Literal["file", "tabular"] = "file"
    options: dict[str, JsonValue] = {}
    operations: tuple[Operation, ...] = ()
    glob: str | None = None

    @property
    def view(self) -> DatasetView:
        """How the registered dataset reads the output."""
        return DatasetView(kind=self.kind, options=self.options, operations=self.operations, glob=self.glob)


_PLACEHOLDER = re.compile(r"\{parameter:([^{}]+)\}")


def placeholder(parameter: str) -> str:
    """Return what stands for the value of a pipeline parameter in the destination of an output."""
    return f"{{parameter:{parameter}}}"


class OutputSpec(Frozen):
    """An output port of a step.

    Attributes:
        name: port name; unique among the outputs of the step.
        kind: ``data`` (v1's PipelineData: a path whose parent exists, which the step makes as a file or a
            folder) or ``dataset`` (v1's OutputFileDatasetConfig: a folder that exists when the step starts).
        datastore: name of the datastore that keeps it.
        destination: the user's own path for a published copy, or None for the attempt's place. May hold ``{run-id}``,
            ``{output-name}`` and :func:`placeholder` of pipeline parameters.
        register_as: registration after success, or None.
        pipeline_output_name: name under which it is an output of the whole pipeline, or None.
    """

    name: str
    kind: Literal["data", "dataset"] = "data"
    datastore: str
    destination: str | None = None
    register_as: RegisterSpec | None = None
    pipeline_output_name: str | None = None

    def with_values(self, values: Mapping[str, object]) -> OutputSpec:
        """Return it with the parameters in its destination replaced by what a run has bound them to.

        Raises:
            ParameterError: if the path leaves the datastore then.
        """
        if self.destination is None or _PLACEHOLDER.search(self.destination) is None:
            return self
        text = _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), self.destination)
        return self.model_copy(update={"destination": normalise_path(text)})
