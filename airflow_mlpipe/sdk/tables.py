"""Reading tabular datasets. pyarrow and pandas are imported when one is read, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, MlpipeError, ParameterError, StorageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.operation import Operation, columns_needed, rows_needed
from airflow_mlpipe.model.partition import PartitionFormat
from airflow_mlpipe.sdk.column_types import DataType
from airflow_mlpipe.sdk.column_values import OnError, in_range, typed
from airflow_mlpipe.sdk.delimited import Delimited, MisfitError
from airflow_mlpipe.sdk.row_operations import check_column, operated
from airflow_mlpipe.storage.selection import DatasetFile, at_hand, dataset_files

if TYPE_CHECKING:
    import pyarrow
    from pandas import DataFrame

PATH_COLUMN = "Path"

_FAST = {"long": "int64", "float": "float64"}


def to_frame(table: pyarrow.Table) -> DataFrame:
    """Return an Arrow table as a data frame. Raises ConfigError if pandas is not installed."""
    needs_pandas()
    # Not with split_blocks: it takes a tenth off the peak of memory, and makes columns of one piece read-only.
    return table.to_pandas(date_as_object=False)


def needs_pandas() -> None:
    """Make sure that the libraries are there.

    Raises:
        ConfigError: if they are not, or cannot be imported together.
    """
    try:
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("tabular datasets need pandas and pyarrow: pip install 'airflow-mlpipe[pandas]'") from None
    except ImportError as error:
        raise ConfigError(
            f"tabular datasets need pandas and pyarrow, whose versions here do not go together: {error}; give the "
            "environment versions that do"
        ) from None


def read_table(
    spec: DatasetSpec,
    store: Callable[[str], Any],
    label: str,
    rule: OnError = OnError(),  # noqa: B008 - frozen
) -> pyarrow.Table:
    """Read a tabular dataset.

    Args:
        spec: the dataset.
        store: opens a datastore by name.
        label: what it is called in errors.
        rule: what becomes of values that do not fit.

    Raises:
        ConfigError: if pandas is not installed.
        MissingDataError: if a source matches nothing.
        ParameterError: if a file, a column or a value is not as the dataset says.
        StorageError: if something cannot be read, or changes while it is read.
    """
    needs_pandas()
    reading = _Reading(spec, label, rule)
    if spec.query is not None:
        return operated(reading.answer(store), spec.operations, label)
    with at_hand(dataset_files(spec, store)) as files:
        return operated(reading.files(files), spec.operations, label)


@dataclass(slots=True)
class _Part:
    """The rows of one file."""

    file: DatasetFile
    names: list[str]
    table: pyarrow.Table


@dataclass(slots=True)
class _Reading:
    """One reading of a dataset.

    Attributes:
        spec: the dataset.
        label: what it is called.
        rule: what becomes of values that do not fit.
        types: the columns that were given a type.
        texts: columns that are read as text: their types differ between files, or are of no use.
        first: column names of the first file, once it is read.
    """

    spec: DatasetSpec
    label: str
    rule: OnError
    types: dict[str, DataType] = field(init=False)
    texts: set[str] = field(default_factory=set)
    first: list[str] | None = None

    def __post_init__(self) -> None:
        given = self.spec.options.get("column_types") or {}
        self.types = {name: DataType.from_json(kind) for name, kind in given.items()}

    @property
    def _operations(self) -> Sequence[Operation]:
        return self.spec.operations

    def files(self, files: Sequence[DatasetFile]) -> pyarrow.Table:
        """Read files, in their order, no more of them than the operations need."""
        wanted = rows_needed(self._operations)
        parts: list[_Part] = []
        for file in files:
            parts.append(self._part(file, wanted))
            if wanted is not None:
                wanted -= parts[-1].table.num_rows
                if wanted <= 0:
                    break
        self._check_names({name: None for part in parts for name in part.names})
        if self.spec.options.get("format") == "delimited":
            self.texts.update(_clashing([part.table for part in parts]))
            parts = [self._with_texts(part) for part in parts]
        return self._joined([self._finished(part) for part in parts])

    def answer(self, store: Callable[[str], Any]) -> pyarrow.Table:
        """Ask the query."""
        from airflow_mlpipe.sdk.query_table import table_of
        from airflow_mlpipe.storage.query import answer

        table = table_of(answer(self.spec, store))
        self._check_names(table.column_names)
        return self._typed(table, "the query's answer")

    def _check_names(self, names: Iterable[str]) -> None:
        """Refuse columns that no file has. Only what is needed is read, so that nobody else knows all the names."""
        path = [PATH_COLUMN] if self.spec.options.get("include_path") else []
        known = list(dict.fromkeys([*path, *names, *self._partition_names]))
        if not list(names):
            # Nothing but empty files.
            return
        for name in self.types:
            check_column(name, known, f"set_column_types: {self.label}")
        for name in columns_needed(self._operations) or ():
            check_column(name, known, self.label)

    @property
    def _partition_names(self) -> Sequence[str]:
        partition = PartitionFormat.of(self.spec.options)
        return partition.names if partition else ()

    def _part(self, file: DatasetFile, rows: int | None) -> _Part:
        with _named(file), unchanged(file.place):
            names, table = self._read(file, rows)
        odd = [each.name for each in table.schema if _is_odd(each.type)]
        if odd and self.spec.options.get("format") == "delimited":
            # Times of a day, which no data frame has: as they are written.
            self.texts.update(odd)
            with _named(file), unchanged(file.place):
                names, table = self._read(file, rows)
        if self.first is None and names:
            self.first = names
        return _Part(file, names, table)

    def _read(self, file: DatasetFile, rows: int | None) -> tuple[list[str], pyarrow.Table]:
        kind = self.spec.options.get("format", "delimited")
        columns = columns_needed(self._operations)
        if kind == "parquet":
            return _parquet(file.place, columns)
        if kind == "json":
            from airflow_mlpipe.sdk.json_lines import read_json_lines

            table = read_json_lines(file.place, self.spec.options)
            return table.column_names, table
        try:
            return self._delimited(file.place, columns, rows, fast=True)
        except MisfitError:
            return self._delimited(file.place, columns, None, fast=False)

    def _delimited(
        self, path: Path, columns: Sequence[str] | None, rows: int | None, *, fast: bool
    ) -> tuple[list[str], pyarrow.Table]:
        import pyarrow

        types = {name: pyarrow.string() for name in self.texts}
        for name, kind in self.types.items():
            plain = fast and kind.kind in _FAST and not kind.formats
            types[name] = getattr(pyarrow, _FAST[kind.kind])() if plain else pyarrow.string()
        reader = Delimited(self.spec.options, types, columns)
        names = reader.names(path, self.first)
        return names, reader.read(path, names, self.first, rows)

    def _with_texts(self, part: _Part) -> _Part:
        """Read a file again if another one has turned a column of it into text."""
        import pyarrow

        if all(pyarrow.types.is_string(each.type) for each in part.table.schema if each.name in self.texts):
            return part
        with unchanged(part.file.place):
            names, table = self._read(part.file, None)
        return _Part(part.file, names, table.slice(0, part.table.num_rows))

    def _finished(self, part: _Part) -> pyarrow.Table:
        """Return a file's rows with their types, and the columns that its path gives."""
        import pyarrow
        import pyarrow.compute as compute

        options, table = self.spec.options, part.table
        where = f"'{part.file.path}'"
        if options.get("format", "delimited") == "delimited" and not options.get("empty_as_string", False):
            for position, each in enumerate(table.schema):
                if pyarrow.types.is_string(each.type):
                    column = table.column(position)
                    if compute.min(compute.binary_length(column)).as_py() == 0:
                        column = compute.if_else(compute.equal(column, ""), None, column)
                        table = table.set_column(position, each.name, column)
        partition = PartitionFormat.of(options)
        if partition is not None:
            for name, value in partition.values(part.file.path).items():
                column = pyarrow.chunked_array([pyarrow.repeat(pyarrow.scalar(value), table.num_rows)])
                if name not in table.column_names:
                    table = table.append_column(name, column)
                elif not options.get("keys_in_files"):
                    table = table.set_column(table.column_names.index(name), name, column)
        table = self._typed(table, where)
        if options.get("include_path"):
            paths = pyarrow.repeat(pyarrow.scalar(f"/{part.file.name}"), table.num_rows)
            table = table.add_column(0, PATH_COLUMN, pyarrow.chunked_array([paths]))
        return table

    def _typed(self, table: pyarrow.Table, where: str) -> pyarrow.Table:
        import pyarrow

        for position, each in enumerate(table.schema):
            place = f"{where}, column '{each.name}'"
            column = table.column(position)
            if each.name in self.types:
                column = typed(column, self.types[each.name], place, self.rule)
            elif pyarrow.types.is_temporal(each.type) and not pyarrow.types.is_duration(each.type):
                if pyarrow.types.is_date(each.type):
                    column = column.cast(pyarrow.timestamp("s"))
                if pyarrow.types.is_timestamp(column.type):
                    column = in_range(column, place, self.rule)
            table = table.set_column(position, each.name, column)
        return table

    def _joined(self, tables: list[pyarrow.Table]) -> pyarrow.Table:
        import pyarrow

        tables = [table for table in tables if table.column_names] or tables[:1]
        if not tables:
            return pyarrow.table({})
        if len(tables) == 1:
            return tables[0]
        for name in _clashing(tables):
            tables = [_as_text(table, name) for table in tables]
        return pyarrow.concat_tables(tables, promote_options="permissive")


@contextmanager
def _named(file: DatasetFile) -> Iterator[None]:
    """Call a remote file in errors what its reader calls it, not what its copy on this machine is called."""
    try:
        yield
    except MlpipeError as error:
        if file.remote is None:
            raise
        told = error.message.replace(f"'{file.place}'", f"'{file.remote[0].name}:/{file.path}'")
        raise type(error)(told) from error.__cause__


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Make sure that a file is the same after the body as before it.

    Raises:
        StorageError: if it is not.
    """
    before = _state(path)
    try:
        yield
    except MlpipeError as error:
        # Half of a file is mostly no valid one either: this is the reason.
        _refuse_change(path, before, error)
        raise
    _refuse_change(path, before, None)


def _refuse_change(path: Path, before: tuple[int, ...], error: MlpipeError | None) -> None:
    if _state(path) != before:
        raise StorageError(f"'{path}' changed while it was read; try again once nobody writes to it") from error


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise StorageError(f"'{path}' was removed while it was read; try again once it is written") from None
    return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def _parquet(path: Path, columns: Sequence[str] | None) -> tuple[list[str], pyarrow.Table]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = None if columns is None else [name for name in names if name in columns]
            return names, file.read(columns=wanted).replace_schema_metadata(None)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise ParameterError(f"'{path}' is no Parquet file: {str(error).splitlines()[0]}") from error


def _is_odd(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_time(kind))


def _clashing(tables: Sequence[pyarrow.Table]) -> list[str]:
    """Return the columns whose types in several tables have none in common."""
    import pyarrow

    found = []
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kinds = {table.schema.field(name).type for table in tables if name in table.column_names}
        try:
            if len(kinds) > 1:
                schemas = [pyarrow.schema([(name, kind)]) for kind in kinds]
                pyarrow.unify_schemas(schemas, promote_options="permissive")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            found.append(name)
    return found


def _as_text(table: pyarrow.Table, name: str) -> pyarrow.Table:
    import pyarrow

    if name not in table.column_names:
        return table
    position = table.column_names.index(name)
    column = table.column(position)
    if pyarrow.types.is_nested(column.type):
        import json

        texts = [None if value is None else json.dumps(value) for value in column.to_pylist()]
        column = pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return table.set_column(position, name, column.cast(pyarrow.string()))
