"""What a step writes to its run while it runs: an append-only file of JSON lines.

The writing half runs inside the user's process and needs the standard library only. A line is written by one
call, so that threads and forked workers of the step never mix their lines and a reader in another process
sees whole lines at any time, except for a last one that is just being written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlpipe.errors import MissingDataError, ParameterError, StorageError
from airflow_mlpipe.storage.atomic import system_errors

if TYPE_CHECKING:
    from airflow_mlpipe.model.result import ObservedInput, WantedModel, Written

Target = Literal["self", "parent"]
"""Whose record an event belongs to: the step run's own or that of its pipeline run."""


def _now() -> datetime:
    return datetime.now(UTC)


class EventsWriter:
    """Appends to the events file of the step this process belongs to.

    Values are plain JSON: None, bool, int, finite float, str, and lists and string-keyed dicts of these.
    """

    def __init__(self, path: str | os.PathLike[str], now: Callable[[], datetime] = _now) -> None:
        """Write to `path`, which is made by the first event; `now` tells the aware UTC time."""
        self._path = os.fspath(path)
        self._now = now
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    def metric(
        self, name: str, value: Any, *, kind: str = "scalar", step: int | None = None, target: Target = "self"
    ) -> None:
        """Append one call of ``Run.log`` or a relative of it; see :class:`~airflow_mlpipe.model.result.MetricRecord`.

        Raises:
            ParameterError: if `value` is not JSON.
            StorageError: if the line cannot be written.
        """
        self._append("metric", target, {"name": name, "kind": kind, "value": value, "step": step})

    def tag(self, name: str, value: str, *, target: Target = "self") -> None:
        """Append a tag. Raises as :meth:`metric` does."""
        self._append("tag", target, {"name": name, "value": value})

    def property(self, name: str, value: str, *, target: Target = "self") -> None:
        """Append a property. Raises as :meth:`metric` does."""
        self._append("property", target, {"name": name, "value": value})

    def file(self, name: str, datastore: str, path: str, size_bytes: int, *, target: Target = "self") -> None:
        """Append a file that is kept at `path` of `datastore` already. Raises as :meth:`metric` does."""
        self._append("file", target, {"name": name, "datastore": datastore, "path": path, "size_bytes": size_bytes})

    def observed(self, kind: str, name: str, version: str | None, resolved: str, digest: str | None) -> None:
        """Append that the step looked up a dataset or model by name, as an ObservedInput.

        Raises as :meth:`metric` does.
        """
        fields = {"input": kind, "name": name, "version": version, "resolved": resolved, "digest": digest}
        self._append("observed", "self", fields)

    def model(self, wanted: WantedModel) -> None:
        """Append that a model is to be registered once the step has succeeded. Raises as :meth:`metric` does."""
        self._append("model", "self", wanted.model_dump())

    def failure(self, message: str) -> None:
        """Append that the step calls itself failed (``Run.fail``), whatever its exit code will be."""
        self._append("failure", "self", {"message": message})

    def write(self, part: Written, *, target: Target = "self") -> None:
        """Append everything in `part`. Raises as :meth:`metric` does."""
        for metric in part.metrics:
            self.metric(metric.name, metric.value, kind=metric.kind, step=metric.step, target=target)
        for name, value in part.tags.items():
            self.tag(name, value, target=target)
        for name, value in part.properties.items():
            self.property(name, value, target=target)
        for file in part.files:
            self.file(file.name, file.datastore, file.path, file.size_bytes, target=target)

    def close(self) -> None:
        """Give the file back; a later event opens it again."""
        with self._opening:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _append(self, kind: str, target: Target, fields: Mapping[str, Any]) -> None:
        event = {"event": kind, "target": target, "time": self._now().isoformat(), **fields}
        try:
            line = json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
        except (TypeError, ValueError) as error:
            named = fields.get("name", "")
            raise ParameterError(
                f"{kind} '{named}' cannot be written: {error}; allowed are None, bool, int, finite float, str, "
                "and lists and dicts of these"
            ) from error
        try:
            written = os.write(self._opened(), line)
        except OSError as error:
            raise StorageError(f"{kind} cannot be written to {self._path}: {error.strerror}") from error
        if written < len(line):
            raise StorageError(f"{kind} cannot be written to {self._path}: only {written} of {len(line)} bytes fit")

    def _opened(self) -> int:
        with self._opening:
            if self._descriptor is None:
                # 0666: the process's umask decides, as for any file the user's code makes.
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            return self._descriptor


@dataclass(frozen=True, slots=True)
class Events:
    """What a step has written so far.

    Attributes:
        own: to its own run.
        parent: to its pipeline run.
        observed: what it looked up by name, each lookup once.
        models: what it wants to have registered, in its order.
        failure: what it said when it called itself failed, or None.
        damaged: number of lines that could not be read; a last line without its end does not count.
    """

    own: Written
    parent: Written
    observed: tuple[ObservedInput, ...] = ()
    models: tuple[WantedModel, ...] = ()
    failure: str | None = None
    damaged: int = 0


def read_events(path: Path) -> Events:
    """Read and add up the events at `path`; works while the step is writing. No file means no events.

    Raises:
        StorageError: if it cannot be read.
    """
    try:
        with system_errors("read", path):
            data = path.read_bytes()
    except MissingDataError:
        data = b""
    # What follows the last line end is a line that is being written, or was when its writer died.
    lines = data.split(b"\n")[:-1]
    fold = _Fold()
    for line in lines:
        fold.add(line)
    return fold.result()


class _Fold:
    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[str, Any]]] = {"self": [], "parent": []}
        self._observed: dict[ObservedInput, None] = {}
        self._models: list[WantedModel] = []
        self._failure: str | None = None
        self._damaged = 0

    def add(self, line: bytes) -> None:
        from airflow_mlpipe.model.result import ObservedInput, WantedModel

        try:
            event = json.loads(line)
            kind, target = event.pop("event"), event.pop("target")
            del event["time"]
            if kind == "observed":
                self._observed[ObservedInput(kind=event.pop("input"), **event)] = None
            elif kind == "model":
                # Where its files are kept is not the step's to say.
                self._models.append(WantedModel(**{**event, "files": {}}))
            elif kind == "failure":
                self._failure = str(event["message"])
            else:
                self._parts[target].append((kind, _record(kind, event)))
        # pydantic's ValidationError is a ValueError.
        except (ValueError, KeyError, TypeError, AttributeError):
            self._damaged += 1

    def result(self) -> Events:
        own, parent = (_written(self._parts[target]) for target in ("self", "parent"))
        return Events(own, parent, tuple(self._observed), tuple(self._models), self._failure, self._damaged)


def _record(kind: str, fields: dict[str, Any]) -> Any:
    from airflow_mlpipe.model.result import FileRecord, MetricRecord

    if kind == "metric":
        return MetricRecord(**fields)
    if kind == "file":
        return FileRecord(**fields)
    if kind in ("tag", "property"):
        return str(fields["name"]), str(fields["value"])
    raise ValueError(f"unknown event {kind}")


def _written(records: Sequence[tuple[str, Any]]) -> Written:
    from airflow_mlpipe.model.result import Written

    properties: dict[str, str] = {}
    for name, value in (record for kind, record in records if kind == "property"):
        # v1: a property is fixed once it is set.
        properties.setdefault(name, value)
    return Written(
        metrics=tuple(record for kind, record in records if kind == "metric"),
        tags=dict(record for kind, record in records if kind == "tag"),
        properties=properties,
        files=tuple({record.name: record for kind, record in records if kind == "file"}.values()),
    )
