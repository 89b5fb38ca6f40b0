"""What a finished step left behind."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
"""Names that a model may have, as a pattern."""


class TreeEntry(Frozen):
    """One entry of a folder's manifest.

    Attributes:
        path: relative to the folder, posix; names that are not UTF-8 hold lone surrogates (PEP 383).
        type: ``file``, ``exec`` (a file that may be executed), ``dir`` (an empty folder) or ``link``.
        digest: of the content, for files; of the target's text, for links; empty for folders.
        size_bytes: length of a file; 0 for the rest.
    """

    path: str
    type: Literal["file", "exec", "dir", "link"] = "file"
    digest: Digest = ""
    size_bytes: int = 0


class TreeManifest(Frozen):
    """The content of a file or a folder, entry by entry, sorted by path.

    A single file is the manifest with one entry whose path is empty.
    """

    entries: tuple[TreeEntry, ...] = ()

    @property
    def digest(self) -> Digest:
        """Identity of the content: paths, types and bytes; not times, owners or the folder's own name."""
        return digest_json("tree", [[e.path, e.type, e.digest] for e in self.entries])

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(e.size_bytes for e in self.entries)

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(e.type in ("file", "exec") for e in self.entries)

    @property
    def is_file(self) -> bool:
        """Whether it is one file rather than a folder."""
        return [e.path for e in self.entries] == [""]


class OutputRecord(Frozen):
    """Where one output of a step lies and what it is.

    Attributes:
        name: the output port.
        datastore: name of the datastore.
        path: of the file or folder, relative to the store's root.
        digest: of its :class:`TreeManifest`.
        size_bytes: sum of its files' sizes.
        files: number of files.
        is_file: True if the output is one file rather than a folder.
        stored: what a remote datastore says of its files, as one digest; None in a folder of this machine.
    """

    name: str
    datastore: str
    path: str
    digest: Digest
    size_bytes: int = 0
    files: int = 0
    is_file: bool = False
    stored: Digest | None = None

    @classmethod
    def of(
        cls, name: str, datastore: str, path: str, manifest: TreeManifest, stored: Digest | None = None
    ) -> OutputRecord:
        """Return the record of an output whose content is `manifest`; the other arguments are its attributes."""
        return cls(
            name=name,
            datastore=datastore,
            path=path,
            digest=manifest.digest,
            size_bytes=manifest.size_bytes,
            files=manifest.files,
            is_file=manifest.is_file,
            stored=stored,
        )


class MetricRecord(Frozen):
    """One call of ``Run.log`` and its relatives.

    Attributes:
        name: the metric.
        kind: which call made it: ``scalar``, ``list``, ``row``, ``table`` or ``image``.
        value: as :meth:`Run.get_metrics` shows it: a scalar, a list, a row's columns, a table's columns, or the
            image's artifact path.
        step: v1's ``step`` argument of ``log``.
    """

    name: str
    kind: Literal["scalar", "list", "row", "table", "image"] = "scalar"
    value: JsonValue = None
    step: int | None = None


class FileRecord(Frozen):
    """A file kept for a run: an upload, or something found in ``./outputs`` or ``./logs``.

    Attributes:
        name: as ``get_file_names`` lists it, e.g. ``outputs/model.pkl``.
        datastore: name of the datastore that keeps it.
        path: relative to the store's root.
        size_bytes: its length.
    """

    name: str
    datastore: str
    path: str
    size_bytes: int = 0


class Written(Frozen):
    """What a step wrote to a run - its own or its parent - through ``Run``."""

    metrics: tuple[MetricRecord, ...] = ()
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    files: tuple[FileRecord, ...] = ()


class ObservedInput(Frozen):
    """Something a step looked up by name in the workspace while it ran.

    Attributes:
        kind: ``dataset`` or ``model``.
        name: the name asked for.
        version: the version asked for, or None for the latest.
        resolved: the version that was found; empty if there was none.
        digest: identity of what was found; None if there was nothing.
    """

    kind: Literal["dataset", "model"]
    name: str
    version: str | None = None
    resolved: str
    digest: Digest | None


class WantedModel(Frozen):
    """A model that a step has asked to be registered where it reached no catalog: that is done once it has succeeded.

    Attributes:
        name: of the model; a new version is made.
        place: what names the folder of the try in which the step has laid its files aside.
        folder: name of the folder the model is, or None if it is one file.
        run_id: the run that registers it.
        tags: free texts by name.
        properties: fixed texts by name.
        description: free text.
        framework: v1's framework name.
        framework_version: its version.
        files: where each file is kept in the default datastore, by its name in the model; empty while the step runs.
    """

    name: str = Field(pattern=f"^{MODEL_NAME}$")
    place: str = Field(pattern=r"^[0-9a-f]{32}$")
    folder: str | None = Field(default=None, pattern=r"^[^/\\\x00]+$")
    run_id: str | None = None
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    description: str = ""
    framework: str | None = None
    framework_version: str | None = None
    files: dict[str, str] = {}

    @field_validator("folder")
    @classmethod
    def _is_a_name(cls, folder: str | None) -> str | None:
        if folder in (".", ".."):
            raise ValueError(f"'{folder}' names no folder of a model")
        return folder


class StepResult(Frozen):
    """A committed result: immutable, and the only thing that is ever reused.

    Attributes:
        id: of this result.
        fingerprint: the key it answers to.
        derivation: key that serves only to fetch candidates (DESIGN section 4, prefetch); never decides.
        components: the named parts of the fingerprint, kept for ``explain``.
        run_id: the run that computed it.
        step_run_id: the step run that computed it.
        pipeline: name of the pipeline.
        step: the step's name.
        outputs: by port.
        written: metrics, tags, properties and files of the step.
        parent_written: what it wrote to its parent run.
        observed: what it looked up by name.
        started_at: aware UTC.
        ended_at: aware UTC.
    """

    id: str
    fingerprint: Digest
    derivation: Digest
    components: dict[str, JsonValue]
    run_id: str
    step_run_id: str
    pipeline: str
    step: str
    outputs: tuple[OutputRecord, ...] = ()
    written: Written = Field(default_factory=Written)
    parent_written: Written = Field(default_factory=Written)
    observed: tuple[ObservedInput, ...] = ()
    started_at: datetime
    ended_at: datetime

    @property
    def duration_s(self) -> float:
        """Seconds it took to compute: what reusing it saves. 0 if the clock was set back meanwhile."""
        return max(0.0, (self.ended_at - self.started_at).total_seconds())
