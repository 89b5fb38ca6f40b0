"""``Dataset.File`` and ``Dataset.Tabular``: from paths in datastores to datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import MissingDataError, ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.sdk.column_types import DataType
from airflow_mlpipe.sdk.dataset_paths import sources_of
from airflow_mlpipe.sdk.reading_options import column_types, delimited, encoding_name, file_options, partition_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from airflow_mlpipe.sdk.file_dataset import FileDataset
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset


class FileDatasetFactory:
    """``Dataset.File``."""

    @staticmethod
    def from_files(
        path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False
    ) -> FileDataset:
        """Define a dataset of files.

        Args:
            path: ``(datastore, 'path')``, ``(datastore, ['path', ...])``, a DataReference, a DataPath, a web
                address, or a list of these. A path is a file, a folder or a pattern with ``*``, ``?`` and ``**``.
            validate: accepted as in v1; data is looked for when it is read, since it may come later.
            partition_format: gives :meth:`FileDataset.filter` columns of parts of the path, e.g.
                ``{region}/{day:yyyy/MM/dd}/{name}.png``.
            is_file: accepted as in v1, not used: what lies there tells.

        Raises:
            ParameterError: if an argument is not allowed, or a path leaves its datastore.
            NotSupportedError: for web addresses, where nothing can read them.
        """
        from airflow_mlpipe.sdk.file_dataset import FileDataset

        workspace, sources = sources_of(path, "from_files")
        text = partition_text(partition_format)
        options = {} if text is None else {"partition_format": text}
        return FileDataset(workspace, DatasetSpec(kind="file", sources=sources, options=options))

    @staticmethod
    def upload_directory(
        src_dir: str | os.PathLike[str],
        target: Any,
        pattern: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> FileDataset:
        """Copy the files of a folder into a datastore and return them as a dataset.

        Args:
            src_dir: the folder.
            target: a Datastore, or ``(datastore, 'folder')``.
            pattern: only files whose path in the folder matches, e.g. ``*.csv`` or ``**/*.png``; by default all.
            overwrite: whether a file that exists there is replaced; else it is left as it is.
            show_progress: whether a line is printed for each file.

        Raises:
            MissingDataError: if the folder does not exist, or nothing in it matches.
            ParameterError: if `target` is something else.
        """
        from airflow_mlpipe.sdk.table_files import target_of
        from airflow_mlpipe.storage.wildcard import split_pattern

        datastore, place = target_of(target, "upload_directory")
        folder = Path(src_dir)
        if not folder.is_dir():
            raise MissingDataError(f"upload_directory: '{folder}' does not exist or is not a folder")
        files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        if pattern is not None:
            base, matches = split_pattern(pattern.lstrip("/"))
            inside = f"{base}/" if base else ""
            files = {n: f for n, f in files.items() if n.startswith(inside) and matches(n.removeprefix(inside))}
        if not files:
            wanted = f" that matches '{pattern}'" if pattern else ""
            raise MissingDataError(f"upload_directory: there is no file{wanted} in '{folder}'")
        ordered = [files[name] for name in sorted(files)]
        datastore.upload_files(ordered, folder, place, overwrite=overwrite, show_progress=show_progress)
        return FileDatasetFactory.from_files((datastore, place))


class TabularDatasetFactory:
    """``Dataset.Tabular``."""

    @staticmethod
    def from_delimited_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: bool = True,
        set_column_types: Mapping[str, DataType | str] | None = None,
        separator: str = ",",
        header: bool | Any = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
    ) -> TabularDataset:
        """Define a table made of delimited text files.

        Args:
            path: see :meth:`FileDatasetFactory.from_files`.
            validate: accepted as in v1; data is looked for when it is read, since it may come later.
            include_path: whether a first column ``Path`` holds each row's file.
            infer_column_types: whether types are taken from the data, all of it; else all columns are text.
            set_column_types: types of some columns: a ``DataType``, or ``string``, ``long``, ``float``, ``bool`` or
                ``datetime``.
            separator: what separates columns.
            header: whether the first line of each file names the columns; else they are ``Column1`` and so on. Also a
                :class:`PromoteHeadersBehavior`.
            partition_format: makes columns of parts of the path, e.g. ``{region}/{day:yyyy/MM/dd}/data.csv``.
            support_multi_line: accepted as in v1; line breaks inside quotes are always understood.
            empty_as_string: whether empty fields of text columns are empty texts rather than missing values.
            encoding: ``utf8``, ``iso88591``, ``latin1``, ``ascii``, ``utf16``, ``utf8bom``, ``windows1252`` or another
                that Python knows.

        Raises:
            ParameterError: if an argument is not allowed.
            NotSupportedError: for web addresses, where nothing can read them.
        """
        options = delimited(
            "from_delimited_files",
            include_path=include_path,
            infer_column_types=infer_column_types,
            set_column_types=set_column_types,
            separator=separator,
            header=header,
            partition_format=partition_format,
            empty_as_string=empty_as_string,
            encoding=encoding,
        )
        return _table(path, "from_delimited_files", options)

    @staticmethod
    def from_parquet_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, DataType | str] | None = None,
        partition_format: str | None = None,
    ) -> TabularDataset:
        """Define a table made of Parquet files. Arguments and errors: :meth:`from_delimited_files`."""
        options = file_options("parquet", include_path, set_column_types, partition_format)
        return _table(path, "from_parquet_files", options)

    @staticmethod
    def from_json_lines_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, DataType | str] | None = None,
        partition_format: str | None = None,
        invalid_lines: str = "error",
        encoding: str = "utf8",
    ) -> TabularDataset:
        """Define a table made of files with one JSON object a line, whose names are columns.

        Args:
            path: see :meth:`FileDatasetFactory.from_files`.
            validate: accepted as in v1.
            include_path: see :meth:`from_delimited_files`.
            set_column_types: likewise.
            partition_format: likewise.
            invalid_lines: ``error``, or ``drop`` to leave out lines that are no JSON object.
            encoding: see :meth:`from_delimited_files`.

        Raises:
            ParameterError: if an argument is not allowed.
            NotSupportedError: for web addresses, where nothing can read them.
        """
        if invalid_lines not in ("error", "drop"):
            raise ParameterError(
                f"from_json_lines_files: invalid_lines={invalid_lines!r} is not allowed; allowed are 'error' and 'drop'"
            )
        options = file_options("json", include_path, set_column_types, partition_format)
        options |= {"invalid_lines": invalid_lines, "encoding": encoding_name(encoding, "from_json_lines_files")}
        return _table(path, "from_json_lines_files", options)

    @staticmethod
    def from_sql_query(
        query: Any,
        validate: bool = True,
        set_column_types: Mapping[str, DataType | str] | None = None,
        query_timeout: float | timedelta = 30,
    ) -> TabularDataset:
        """Define a table that is the answer of a query; the database is only read.

        The content of such a table is the answer itself: to know whether a step can be reused, the query is asked.

        Args:
            query: ``(datastore, 'SELECT ...')``, or a DataPath with the query as its path. The datastore is a database.
            validate: accepted as in v1.
            set_column_types: see :meth:`from_delimited_files`.
            query_timeout: seconds, or a timedelta, after which the query is given up; 0 for never.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        from airflow_mlpipe.sdk.data_path import DataPath
        from airflow_mlpipe.sdk.datastore import Datastore
        from airflow_mlpipe.sdk.tabular_dataset import TabularDataset

        pair = (query.datastore, query.path_on_datastore) if isinstance(query, DataPath) else query
        if not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and isinstance(pair[0], Datastore)
            and isinstance(pair[1], str)
            and pair[1].strip()
        ):
            raise ParameterError(
                f"from_sql_query: query {query!r} is not allowed; give (datastore, 'SELECT ...') or "
                "DataPath(datastore, 'SELECT ...')"
            )
        timeout_s = query_timeout.total_seconds() if isinstance(query_timeout, timedelta) else query_timeout
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not 0 <= timeout_s < float("inf"):
            raise ParameterError(f"from_sql_query: query_timeout={query_timeout!r} is not allowed; give seconds from 0")
        datastore, text = pair
        options: dict[str, JsonValue] = {
            "format": "sql",
            "query": text.strip(),
            "query_timeout_s": float(timeout_s),
            "column_types": column_types(set_column_types),
        }
        spec = DatasetSpec(kind="tabular", sources=(DatastorePath(datastore=datastore.name),), options=options)
        return TabularDataset(datastore.workspace, spec)

    @staticmethod
    def register_pandas_dataframe(
        dataframe: DataFrame,
        target: Any,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        show_progress: bool = True,
        row_group_size: int | None = None,
        make_target_path_unique: bool = True,
    ) -> TabularDataset:
        """Write a data frame as a Parquet file and register it as a dataset; another frame is a new version.

        Args:
            dataframe: the frame; its index is left out.
            target: a Datastore, or ``(datastore, 'folder')``.
            name: of the dataset.
            description: free text.
            tags: free texts by name.
            show_progress: accepted as in v1, not used.
            row_group_size: rows of a row group of the file; by default Arrow's.
            make_target_path_unique: whether the file lies in a folder named by its content, so that versions keep their
                bytes; else an earlier file at `target` is replaced.

        Raises:
            ParameterError: if an argument is not allowed, or a column cannot be written.
            ConfigError: if pandas is not installed.
        """
        from airflow_mlpipe.sdk.table_files import register_frame
        from airflow_mlpipe.sdk.tables import needs_pandas

        needs_pandas()
        import pandas

        if not isinstance(dataframe, pandas.DataFrame):
            raise ParameterError(
                f"register_pandas_dataframe: {type(dataframe).__name__} is not allowed; give a pandas DataFrame"
            )
        return register_frame(
            dataframe,
            target,
            name,
            unique=make_target_path_unique,
            row_group_size=row_group_size,
            description=description,
            tags=tags,
        )


def _table(path: Any, factory: str, options: dict[str, JsonValue]) -> TabularDataset:
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset

    workspace, sources = sources_of(path, factory)
    return TabularDataset(workspace, DatasetSpec(kind="tabular", sources=sources, options=options))
