"""``Dataset.File`` and ``Dataset.Tabular``: from paths in datastores to datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError, ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, normalise_path
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.sdk.column_types import DataType

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.dataset import FileDataset, TabularDataset
    from airflow_mlpipe.sdk.datastore import Datastore

_EXAMPLE = "Dataset.File.from_files((datastore, 'folder/**/*.png'))"


class FileDatasetFactory:
    """``Dataset.File``."""

    @staticmethod
    def from_files(
        path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False
    ) -> FileDataset:
        """Define a dataset of files.

        Args:
            path: ``(datastore, 'path')``, ``(datastore, ['path', ...])``, a DataReference, or a list of these. A path
                is a file, a folder or a pattern with ``*``, ``?`` and ``**``.
            validate: accepted as in v1; data is looked for when it is read, since it may come later.
            partition_format: refused; it makes columns, which files have not.
            is_file: accepted as in v1, not used.

        Raises:
            ParameterError: if `path` is something else, or leaves its datastore.
            NotSupportedError: for web addresses, and for `partition_format`.
        """
        from airflow_mlpipe.sdk.dataset import FileDataset

        if partition_format is not None:
            raise NotSupportedError(
                "from_files(partition_format=...) is not supported; read the parts of the path in the step"
            )
        datastore, sources = _sources(path, "from_files")
        return FileDataset(datastore.workspace, DatasetSpec(kind="file", sources=sources))


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
            infer_column_types: whether types are taken from the data; else all columns are text.
            set_column_types: types of some columns: a ``DataType``, or ``string``, ``long``, ``float``, ``bool`` or
                ``datetime``.
            separator: what separates columns.
            header: whether the first line of each file names the columns; else they are ``Column1`` and so on.
            partition_format: makes columns of parts of the path, e.g. ``{region}/{day:yyyy/MM/dd}/data.csv``.
            support_multi_line: accepted as in v1; line breaks inside quotes are always understood.
            empty_as_string: whether empty fields of text columns are empty texts rather than missing values.
            encoding: ``utf8``, ``iso88591``, ``latin1``, ``ascii``, ``utf16``, ``utf8bom``, ``windows1252`` or another
                that Python knows.

        Raises:
            ParameterError: if an argument is not allowed.
            NotSupportedError: for web addresses.
        """
        from airflow_mlpipe.sdk.dataset import TabularDataset

        datastore, sources = _sources(path, "from_delimited_files")
        if not isinstance(separator, str) or not separator:
            raise ParameterError(f"from_delimited_files: separator {separator!r} is not allowed; give e.g. ','")
        options: dict[str, JsonValue] = {
            "format": "delimited",
            "separator": separator,
            "header": _flag(header),
            "encoding": _encoding(encoding),
            "include_path": bool(include_path),
            "infer_column_types": bool(infer_column_types),
            "empty_as_string": bool(empty_as_string),
            "column_types": {name: DataType.of(kind).to_json() for name, kind in (set_column_types or {}).items()},
            "partition_format": _partition(partition_format),
        }
        return TabularDataset(datastore.workspace, DatasetSpec(kind="tabular", sources=sources, options=options))


def _sources(path: Any, factory: str) -> tuple[Datastore, tuple[DatastorePath, ...]]:
    found: list[tuple[Datastore, str]] = []
    for each in path if isinstance(path, list) else [path]:
        found.extend(_places(each, factory))
    if not found:
        raise ParameterError(f"{factory}: no path is given; write {_EXAMPLE}")
    first = found[0][0]
    for datastore, place in found:
        if datastore.workspace != first.workspace:
            raise ParameterError(
                f"{factory}: '{place}' lies in workspace '{datastore.workspace.name}', the first path in "
                f"'{first.workspace.name}'; a dataset has one workspace"
            )
    return first, tuple(DatastorePath(datastore=store.name, path=normalise_path(place)) for store, place in found)


def _places(given: Any, factory: str) -> list[tuple[Datastore, str]]:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.reference import DataReference

    if isinstance(given, DataReference):
        return [(given.datastore, given.path_on_datastore)]
    if isinstance(given, Datastore):
        return [(given, "")]
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Datastore):
        paths = given[1] if isinstance(given[1], (list, tuple)) else [given[1]]
        if paths and all(isinstance(place, str) for place in paths):
            return [(given[0], place) for place in paths]
    if isinstance(given, str):
        if "://" in given:
            raise NotSupportedError(
                f"{factory}: '{given}' is a web address, which this version does not read; download it, upload it: "
                "datastore.upload_files(['FILE'], target_path='data'), then give (datastore, 'data/FILE')"
            )
        raise ParameterError(
            f"{factory}: '{given}' is a local path; upload it: datastore.upload('{given}', target_path='data'), "
            "then give (datastore, 'data')"
        )
    raise ParameterError(f"{factory}: path {given!r} is not allowed; write {_EXAMPLE}")


def _flag(header: Any) -> bool:
    if isinstance(header, bool):
        return header
    # v1 takes an enum as well: NO_HEADERS, ONLY_FIRST_FILE_HAS_HEADERS, COMBINE_..., ALL_FILES_HAVE_SAME_HEADERS.
    name = getattr(header, "name", header)
    if name in ("NO_HEADERS", "ALL_FILES_HAVE_SAME_HEADERS", "COMBINE_ALL_FILES_HEADERS"):
        return bool(name != "NO_HEADERS")
    raise ParameterError(f"from_delimited_files: header {header!r} is not allowed; allowed are True and False")


_V1_ENCODINGS = {"utf8": "utf-8", "utf8bom": "utf-8-sig", "iso88591": "iso-8859-1", "windows1252": "cp1252"}


def _encoding(given: str) -> str:
    import codecs

    name = _V1_ENCODINGS.get(str(given).lower(), str(given))
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ParameterError(
            f"from_delimited_files: encoding {given!r} is not known; use e.g. utf8, latin1, utf16 or windows1252"
        ) from None


def _partition(given: str | None) -> str | None:
    if given is not None:
        from airflow_mlpipe.sdk.partition import PartitionFormat

        PartitionFormat(given)
    return given
