"""What stands in for a run where there is none: a script that is tried out by hand."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotFoundError, NotSupportedError
from airflow_mlpipe.model.result import FileRecord, Written
from airflow_mlpipe.sdk.metrics import merge
from airflow_mlpipe.sdk.run import Run

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.experiment import Experiment


class OfflineError(NotSupportedError, AttributeError):
    """Something was asked of an offline run that only a real run has.

    An AttributeError too: scripts written for v1 test with ``hasattr`` or catch it.
    """


class _OfflineRun(Run):
    """A run that is none: ``log`` and its relatives print, and what was written can be read back.

    The name is v1's, which scripts compare with.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> _OfflineRun:
        return object.__new__(cls)

    def __init__(self, run_id: str | None = None, **kwargs: Any) -> None:
        self._id = run_id or f"OfflineRun_{uuid.uuid4()}"
        self._parts: list[Written] = []
        self._kept: dict[str, Path | bytes] = {}
        self._parent: _OfflineRun | None = None

    @property
    def name(self) -> str:
        """The id."""
        return self._id

    @property
    def type(self) -> str:
        """``OfflineRun``."""
        return "OfflineRun"

    @property
    def number(self) -> int:
        """0."""
        return 0

    @property
    def status(self) -> str:
        """``Running``."""
        return "Running"

    @property
    def experiment(self) -> Experiment:
        """There is none.

        Raises:
            OfflineError: always.
        """
        raise OfflineError(
            f"{self.id} has no experiment and no workspace: this script does not run as a step; "
            "use Workspace.from_config() here, or run it through a pipeline"
        )

    @property
    def parent(self) -> Run | None:
        """An offline run as well, so that a step's ``run.parent.log(...)`` can be tried out; it has no parent."""
        if self._id.endswith("_parent"):
            return None
        if self._parent is None:
            self._parent = _OfflineRun(f"{self._id}_parent")
        return self._parent

    @property
    def input_datasets(self) -> dict[str, Any]:
        """Empty: inputs are given to steps only."""
        return {}

    @property
    def output_datasets(self) -> dict[str, Any]:
        """Empty: outputs are given to steps only."""
        return {}

    def get_details(self) -> dict[str, Any]:
        """Return id, status and what was written."""
        return {
            "runId": self.id, "status": self.status, "properties": self.get_properties(), "tags": self.get_tags(),
            "logFiles": {},
        }  # fmt: skip

    def register_model(self, model_name: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse: there is no workspace to register in.

        Raises:
            OfflineError: always.
        """
        raise OfflineError(
            f"model '{model_name}' cannot be registered by {self.id}; use Model.register(workspace, ...) here"
        )

    def cancel(self) -> None:
        """Do nothing: the script goes on."""
        print(f"Attempted to cancel {self.id}")

    def fail(self, error_details: object = None, error_code: object = None, _set_status: bool = True) -> None:
        """Print that the run would have failed; the script goes on."""
        print(f"Attempted to fail {self.id}: {error_details or 'no details'}")

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: object = None) -> Run:
        """Return another offline run."""
        return _OfflineRun()

    def __repr__(self) -> str:
        return f"_OfflineRun(id={self.id})"

    def _written(self) -> Written:
        return merge(self._parts)

    def _write(self, part: Written) -> None:
        self._parts.append(part)
        for record in part.metrics:
            print(f"Attempted to log {record.kind} metric {record.name}:\n{record.value}")
        for what, pairs in (("tag", part.tags), ("property", part.properties)):
            _print_pairs(what, pairs)

    def _keep(self, name: str, source: Path | bytes) -> None:
        self._kept[name] = source
        self._write(Written(files=(FileRecord(name=name, datastore="", path=name),)))
        print(f"Attempted to upload {name}")

    def _file(self, name: str) -> Path:
        source = self._kept.get(name)
        if isinstance(source, Path):
            return source
        raise NotFoundError(f"{self.id} has no file '{name}' on disk; files are kept in runs only")


def _print_pairs(what: str, pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        print(f"Attempted to set {what} {name}: {value}")
