"""What can be written to a run: metrics, tags, properties and files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.result import MetricRecord, Written
from airflow_mlpipe.sdk.metrics import plain


class Figure(Protocol):
    """Anything that can draw itself into a file, such as matplotlib's ``pyplot`` or a figure."""

    def savefig(self, fname: Any, /) -> Any:
        """Write the picture to `fname`."""


class RunWriter(ABC):
    """The writing half of a run, with v1's names and arguments."""

    @abstractmethod
    def _write(self, part: Written) -> None:
        """Add `part` to what the run has."""

    @abstractmethod
    def _keep(self, name: str, source: Path | bytes) -> None:
        """Keep a file for the run under `name`."""

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a value. Logging one name several times makes a list.

        Args:
            name: name of the metric.
            value: a number, text or bool; numpy scalars are accepted.
            description: accepted as in v1; not kept.
            step: position in a series, e.g. the epoch.

        Raises:
            ParameterError: if the value cannot be written as JSON.
        """
        self._log(MetricRecord(name=name, value=plain(value, f"metric '{name}'"), step=step))

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        """Log a list of values.

        Raises:
            ParameterError: if a value cannot be written as JSON.
        """
        self._log(MetricRecord(name=name, kind="list", value=_as_list(value, name)))

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Log one row of a table: a value for each keyword.

        Raises:
            ParameterError: if a value cannot be written as JSON.
        """
        self._log(MetricRecord(name=name, kind="row", value=plain(kwargs, f"metric '{name}'")))

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log a table: a list of values for each column.

        Raises:
            ParameterError: if `value` is not a mapping or a value cannot be written as JSON.
        """
        if not isinstance(value, Mapping):
            raise ParameterError(f"metric '{name}': log_table needs a dict of columns, not a {type(value).__name__}")
        self._log(MetricRecord(name=name, kind="table", value=plain(value, f"metric '{name}'")))

    def log_image(
        self, name: str, path: str | os.PathLike[str] | None = None, plot: Figure | None = None, description: str = ""
    ) -> None:
        """Log a picture: a file, or a plot that is drawn now. It is kept among the run's files.

        Args:
            name: name of the metric.
            path: picture file.
            plot: matplotlib's ``pyplot``, a figure, or anything with ``savefig``.
            description: accepted as in v1; not kept.

        Raises:
            ParameterError: if not exactly one of `path` and `plot` is given.
            MissingDataError: if `path` does not exist.
        """
        if (path is None) == (plot is None):
            raise ParameterError(f"image '{name}': give either path= or plot=")
        if path is not None:
            file = f"{name}{Path(path).suffix}"
            self.upload_file(file, path)
        elif plot is not None:
            import io

            picture = io.BytesIO()
            plot.savefig(picture)
            file = f"{name}.png"
            self._keep(_clean(file), picture.getvalue())
        self._log(MetricRecord(name=name, kind="image", value=_clean(file)))

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix in v1's form, a dict or JSON text with ``schema_type`` and ``data``."""
        self._log_document(name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table in v1's form, a dict or JSON text with ``schema_type`` and ``data``."""
        self._log_document(name, value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals in v1's form, a dict or JSON text with ``schema_type`` and ``data``."""
        self._log_document(name, value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions in v1's form, a dict or JSON text with ``schema_type`` and ``data``."""
        self._log_document(name, value)

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag; a later value replaces an earlier one."""
        self._write(Written(tags={str(key): _text(value)}))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags."""
        self._write(Written(tags={str(key): _text(value) for key, value in tags.items()}))

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Add properties. Unlike tags, a property that is set cannot be changed.

        Raises:
            ParameterError: if one of them is set to another value already.
        """
        new = {str(key): _text(value) for key, value in properties.items()}
        known = self._known_properties()
        for key, value in new.items():
            if known.get(key, value) != value:
                raise ParameterError(
                    f"property '{key}' is '{known[key]}' already and cannot be changed to '{value}'; use a tag"
                )
        self._write(Written(properties=new))

    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: str | None = None
    ) -> None:
        """Keep a file for the run.

        Args:
            name: what it is called among the run's files, e.g. ``outputs/model.pkl``.
            path_or_stream: the file, or a readable binary stream.
            datastore_name: accepted as in v1; files of a run are kept in the default datastore.

        Raises:
            MissingDataError: if the file does not exist.
            ParameterError: if `name` is empty or leaves the run's folder.
        """
        name = _clean(name)
        if isinstance(path_or_stream, (str, os.PathLike)):
            path = Path(path_or_stream)
            if not path.is_file():
                raise MissingDataError(f"upload of '{name}': there is no file '{path}' in {Path.cwd()}")
            self._keep(name, path)
        else:
            data: bytes | str = path_or_stream.read()
            self._keep(name, data.encode() if isinstance(data, str) else data)

    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[str | os.PathLike[str]],
        return_artifacts: bool = False,
        timeout_seconds: int | None = None,
        datastore_name: str | None = None,
    ) -> None:
        """Keep several files; `names` and `paths` go together.

        Raises:
            ParameterError: if there are not as many names as paths.
            MissingDataError: if a file does not exist.
        """
        if len(names) != len(paths):
            raise ParameterError(f"upload_files: {len(names)} names but {len(paths)} paths; each file needs its name")
        for name, path in zip(names, paths, strict=True):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: str | None = None) -> None:
        """Keep a folder's files, each under ``name/<its path in the folder>``.

        Raises:
            MissingDataError: if the folder does not exist.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise MissingDataError(f"upload of '{name}': there is no folder '{folder}' in {Path.cwd()}")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.upload_file(f"{name}/{file.relative_to(folder).as_posix()}", file)

    def flush(self, timeout_seconds: int = 300) -> None:
        """Do nothing: every write is on disk when its call returns."""
        return

    def _known_properties(self) -> Mapping[str, str]:
        return {}

    def _log(self, record: MetricRecord) -> None:
        if not record.name:
            raise ParameterError("a metric needs a name; allowed is any text that is not empty")
        self._write(Written(metrics=(record,)))

    def _log_document(self, name: str, value: Any) -> None:
        import json

        document = json.loads(value) if isinstance(value, str) else value
        self._log(MetricRecord(name=name, value=plain(document, f"metric '{name}'")))


def _as_list(value: Any, name: str) -> list[Any]:
    listed = plain(value, f"metric '{name}'")
    return listed if isinstance(listed, list) else [listed]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _clean(name: str) -> str:
    from airflow_mlpipe.model.data import normalise_path

    clean = normalise_path(name)
    if not clean:
        raise ParameterError(f"a file of a run needs a name, not '{name}'; for example 'outputs/model.pkl'")
    return clean
