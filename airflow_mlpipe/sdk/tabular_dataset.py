"""Datasets of rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.operation import DropColumns, KeepColumns, Timestamps, Window
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset, WrongKindError
from airflow_mlpipe.sdk.expression import moment_text

if TYPE_CHECKING:
    import pyarrow
    from pandas import DataFrame

    from airflow_mlpipe.sdk.column_values import OnError
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.file_dataset import FileDataset


class TabularDataset(AbstractDataset):
    """Rows with named columns: of delimited files, JSON lines, Parquet files or a database."""

    kind = "tabular"

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> DataFrame:
        """Read it into one data frame: all its files in the order of their paths, then what is done to them.

        Args:
            on_error: ``null`` makes a value that has not the type its column was given missing; ``fail`` raises.
            out_of_range_datetime: the same for moments outside of the years 1677 to 2262, which v1's pandas cannot say.

        Raises:
            ConfigError: if pandas is not installed.
            MissingDataError: if a path matches nothing.
            ParameterError: if a column, an encoding or a value is not as the dataset says; the value's place is named.
            StorageError: if a file changes while it is read.
        """
        from airflow_mlpipe.sdk.column_values import OnError
        from airflow_mlpipe.sdk.tables import to_frame

        return to_frame(self.to_arrow(OnError.of(on_error, out_of_range_datetime)))

    def to_arrow(self, rule: OnError | None = None) -> pyarrow.Table:
        """Read it into an Arrow table. Arguments and errors are those of :meth:`to_pandas_dataframe`."""
        from airflow_mlpipe.sdk.column_values import OnError
        from airflow_mlpipe.sdk.tables import read_table

        self._warn_if_changed()
        return read_table(self._spec, self._workspace.store, self.label, rule or OnError())

    def to_parquet_files(self) -> FileDataset:
        """Write its rows as a Parquet file into the default datastore and return that as a dataset of files.

        The same rows, read in the same way, are written once.

        Raises:
            MlpipeError: as :meth:`to_pandas_dataframe`.
        """
        from airflow_mlpipe.sdk.table_files import written

        return written(self, "parquet")

    def to_csv_files(self, separator: str = ",") -> FileDataset:
        """Write its rows as a delimited file into the default datastore and return that as a dataset of files.

        Args:
            separator: one character between columns.

        Raises:
            ParameterError: if `separator` is no single character.
            MlpipeError: as :meth:`to_pandas_dataframe`.
        """
        from airflow_mlpipe.sdk.table_files import written

        if not isinstance(separator, str) or len(separator) != 1:
            raise ParameterError(f"to_csv_files: separator {separator!r} is not allowed; give one character")
        return written(self, "csv", separator)

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> Self:
        """Return it with these columns only, in this order.

        Args:
            columns: a name, or several.
            validate: whether the data is looked at now; else a column that does not exist is an error when it is read.

        Raises:
            ParameterError: if a column is known not to exist.
        """
        made = self._with(KeepColumns(kind="keep", columns=column_names("keep_columns", columns)))
        return made._validated(validate)

    def drop_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it without these columns.

        Args:
            columns: a name, or several.

        Raises:
            ParameterError: if a column is known not to exist.
        """
        return self._with(DropColumns(kind="drop", columns=column_names("drop_columns", columns)))

    @property
    def timestamp_columns(self) -> tuple[str | None, str | None]:
        """The columns that :meth:`with_timestamp_columns` named: the fine one, and that of the partition."""
        fine: str | None = None
        coarse: str | None = None
        for operation in self._spec.operations:
            if isinstance(operation, Timestamps):
                fine, coarse = operation.fine, operation.coarse
            elif isinstance(operation, KeepColumns):
                fine, coarse = (name if name in operation.columns else None for name in (fine, coarse))
            elif isinstance(operation, DropColumns):
                fine, coarse = (None if name in operation.columns else name for name in (fine, coarse))
        return fine, coarse

    def with_timestamp_columns(
        self,
        timestamp: str | None = None,
        partition_timestamp: str | None = None,
        validate: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Return it with the columns named that hold the time of each row, for :meth:`time_before` and its relatives.

        Args:
            timestamp: the column with each row's own time; None for none.
            partition_timestamp: the column with the time of each row's file, mostly from the ``partition_format``.
            validate: whether the data is looked at now.
            **kwargs: v1's old names `fine_grain_timestamp` and `coarse_grain_timestamp`.

        Raises:
            ParameterError: if only the second is given, or both are the same.
        """
        fine = timestamp or kwargs.get("fine_grain_timestamp")
        coarse = partition_timestamp or kwargs.get("coarse_grain_timestamp")
        for name in (fine, coarse):
            if name is not None and not isinstance(name, str):
                raise ParameterError(f"with_timestamp_columns: {name!r} is not allowed; give the name of a column")
        if fine is None and coarse is not None:
            raise ParameterError("with_timestamp_columns: partition_timestamp needs timestamp as well, as in v1")
        if fine is not None and fine == coarse:
            raise ParameterError(f"with_timestamp_columns: '{fine}' is given for both; give two columns")
        return self._with(Timestamps(kind="timestamps", fine=fine, coarse=coarse))._validated(validate)

    def time_before(self, end_time: datetime, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return it with the rows until `end_time`. See :meth:`time_between`."""
        return self._window("time_before", None, end_time, include_boundary)

    def time_after(self, start_time: datetime, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return it with the rows from `start_time` on. See :meth:`time_between`."""
        return self._window("time_after", start_time, None, include_boundary)

    def time_between(
        self, start_time: datetime, end_time: datetime, include_boundary: bool = True, validate: bool = True
    ) -> Self:
        """Return it with the rows of a span of time, by the column that :meth:`with_timestamp_columns` named.

        Args:
            start_time: begin; a moment without a zone, here and in the data, is in UTC.
            end_time: end.
            include_boundary: whether rows at exactly these moments belong to it.
            validate: accepted as in v1; the data is looked at when it is read.

        Raises:
            ParameterError: if no column is named, or a moment is no datetime.
        """
        return self._window("time_between", start_time, end_time, include_boundary)

    def time_recent(self, time_delta: timedelta, include_boundary: bool = True, validate: bool = True) -> Self:
        """Return it with the rows of the last `time_delta`, counted from now: the call, not the reading, says when.

        Args:
            time_delta: how long.
            include_boundary: see :meth:`time_between`.
            validate: likewise.

        Raises:
            ParameterError: if no column is named, or `time_delta` is no timedelta.
        """
        if not isinstance(time_delta, timedelta):
            raise ParameterError(f"time_recent({time_delta!r}) is not allowed; give a timedelta")
        return self._window("time_recent", datetime.now(UTC) - time_delta, None, include_boundary)

    @property
    def partition_keys(self) -> list[str]:
        """The columns that come from its files' paths."""
        from airflow_mlpipe.model.partition import PartitionFormat

        partition = PartitionFormat.of(self._spec.options)
        return list(partition.names) if partition else []

    def get_partition_key_values(self, partition_keys: Sequence[str] | None = None) -> DataFrame:
        """Return the different values that its files' paths give these columns. No file is read.

        Args:
            partition_keys: some of :attr:`partition_keys`; by default all.

        Raises:
            ParameterError: if one of them is no column of the paths.
        """
        from airflow_mlpipe.sdk.partitions import key_values

        return key_values(self, partition_keys)

    def partition_by(
        self,
        partition_keys: Sequence[str],
        target: Datastore | tuple[Datastore, str],
        name: str | None = None,
        show_progress: bool = True,
        partition_as_file_dataset: bool = False,
    ) -> Any:
        """Write its rows as Parquet files in a folder for each combination of keys, and return that as a dataset.

        Args:
            partition_keys: columns, the outermost folder first.
            target: a datastore, or ``(datastore, folder)``; files of an earlier call there are replaced.
            name: to register the result under; by default it is not registered.
            show_progress: whether a line is printed for each file.
            partition_as_file_dataset: whether the result is a FileDataset.

        Raises:
            ParameterError: if a key is no column, or has missing values.
        """
        from airflow_mlpipe.sdk.partitions import partitioned

        return partitioned(self, partition_keys, target, name, show=show_progress, as_files=partition_as_file_dataset)

    def to_path(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: rows have no path.

        Raises:
            WrongKindError: always.
        """
        raise WrongKindError(
            f"{self.label} is a TabularDataset, which has rows and no paths; read it with to_pandas_dataframe(), or "
            "write files with to_csv_files() or to_parquet_files()"
        )

    download = to_path
    mount = to_path

    def _window(self, what: str, start: object, end: object, include_boundary: bool) -> Self:
        fine, coarse = self.timestamp_columns
        column = fine or coarse
        if column is None:
            raise ParameterError(f"{what}: {self.label} has no time; name its column: with_timestamp_columns('column')")
        for moment in (start, end):
            if moment is not None and not isinstance(moment, datetime):
                raise ParameterError(f"{what}: {moment!r} is not allowed; give a datetime")
        limits = [None if moment is None else moment_text(moment) for moment in (start, end)]  # type: ignore[arg-type]
        return self._with(
            Window(
                kind="window", column=column, start=limits[0], end=limits[1], include_boundary=bool(include_boundary)
            )
        )

    def _validated(self, validate: bool) -> Self:
        if validate:
            self.take(1).to_arrow()
        return self


def column_names(what: str, given: object) -> tuple[str, ...]:
    """Return the columns that v1's forms name: one text, or several.

    Raises:
        ParameterError: if they are something else, or none.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"{what}({given!r}) is not allowed; give the name of a column, or a list of names")
    return tuple(dict.fromkeys(names))
