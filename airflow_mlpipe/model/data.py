"""Where data comes from and where it goes: paths in datastores, datasets, ports of a step."""

from __future__ import annotations

from typing import Literal

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import JsonValue

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
    """A file, a folder or a glob inside a registered datastore.

    Attributes:
        datastore: name of the datastore in the workspace.
        path: normalised relative path (see :func:`normalise_path`); empty for the root.
    """

    datastore: str
    path: str = ""


class DatasetSpec(Frozen):
    """The definition of a dataset. Its identity when used is the content of `sources` and `options`.

    Attributes:
        kind: ``file`` or ``tabular``.
        sources: what it is made of, in the order given.
        options: how a tabular dataset is read (``separator``, ``header``, ...); empty for files.
    """

    kind: Literal["file", "tabular"]
    sources: tuple[DatastorePath, ...]
    options: dict[str, JsonValue] = {}


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
    """

    name: str
    source: StepOutputRef | DatasetSpec | DatastorePath
    mode: AccessMode = "mount"
    path_on_compute: str | None = None
    as_dataset: bool = False
    label: str = ""
    dataset_id: str | None = None


class RegisterSpec(Frozen):
    """Registration of an output as a dataset once its step has succeeded.

    Attributes:
        name: name of the dataset; a new version is made of each different content.
        description: free text.
        tags: free texts by name.
        kind: ``file`` or ``tabular``; with ``tabular``, `options` say how it is read.
        options: see :class:`DatasetSpec`.
    """

    name: str
    description: str = ""
    tags: dict[str, str] = {}
    kind: Literal["file", "tabular"] = "file"
    options: dict[str, JsonValue] = {}


class OutputSpec(Frozen):
    """An output port of a step.

    Attributes:
        name: port name; unique among the outputs of the step.
        kind: ``data`` (v1's PipelineData: a path whose parent exists, which the step makes as a file or a
            folder) or ``dataset`` (v1's OutputFileDatasetConfig: a folder that exists when the step starts).
        datastore: name of the datastore that keeps it.
        destination: the user's own path for a published copy, or None for the attempt's place.
        register_as: registration after success, or None.
        pipeline_output_name: name under which it is an output of the whole pipeline, or None.
    """

    name: str
    kind: Literal["data", "dataset"] = "data"
    datastore: str
    destination: str | None = None
    register_as: RegisterSpec | None = None
    pipeline_output_name: str | None = None
