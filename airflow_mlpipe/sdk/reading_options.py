"""How tables are read: v1's arguments, checked, as definitions hold them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.partition import PartitionFormat
from airflow_mlpipe.sdk.column_types import DataType


class PromoteHeadersBehavior(Enum):
    """Which files have a first line with the names of the columns; v1's type."""

    NO_HEADERS = 0
    """None has: columns are ``Column1`` and so on."""
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    """The first has; its names are those of all files."""
    COMBINE_ALL_FILES_HEADERS = 2
    """All have; columns are brought together by their names."""
    ALL_FILES_HAVE_SAME_HEADERS = 3
    """All have. Columns are brought together by their names all the same: v1 went by position."""


_HEADERS: dict[str, JsonValue] = {
    "NO_HEADERS": False,
    "ONLY_FIRST_FILE_HAS_HEADERS": "first",
    "COMBINE_ALL_FILES_HEADERS": True,
    "ALL_FILES_HAVE_SAME_HEADERS": True,
}
_ENCODINGS = {"utf8": "utf-8", "utf8bom": "utf-8-sig", "iso88591": "iso-8859-1", "windows1252": "cp1252"}


def delimited(
    factory: str,
    *,
    include_path: bool = False,
    infer_column_types: bool = True,
    set_column_types: Mapping[str, DataType | str] | None = None,
    separator: Any = ",",
    header: Any = True,
    partition_format: str | None = None,
    empty_as_string: bool = False,
    encoding: str = "utf8",
) -> dict[str, JsonValue]:
    """Return the options of delimited files. For the arguments see ``TabularDatasetFactory.from_delimited_files``.

    Raises:
        ParameterError: if one is not allowed.
    """
    if not isinstance(separator, str) or not separator:
        raise ParameterError(f"{factory}: separator {separator!r} is not allowed; give e.g. ','")
    return {
        "format": "delimited",
        "separator": separator,
        "header": _header(header, factory),
        "encoding": encoding_name(encoding, factory),
        "include_path": bool(include_path),
        "infer_column_types": bool(infer_column_types),
        "empty_as_string": bool(empty_as_string),
        "column_types": column_types(set_column_types),
        "partition_format": partition_text(partition_format),
    }


def file_options(
    kind: str,
    include_path: bool,
    set_column_types: Mapping[str, DataType | str] | None,
    partition_format: str | None,
) -> dict[str, JsonValue]:
    """Return the options that files of all other formats have. Errors: see :func:`delimited`."""
    return {
        "format": kind,
        "include_path": bool(include_path),
        "column_types": column_types(set_column_types),
        "partition_format": partition_text(partition_format),
    }


def column_types(given: Mapping[str, DataType | str] | None) -> dict[str, JsonValue]:
    """Return the types of columns by name. Raises ParameterError for one that does not exist."""
    return {str(name): DataType.of(kind).to_json() for name, kind in (given or {}).items()}


def partition_text(given: str | None) -> str | None:
    """Return a ``partition_format``. Raises ParameterError if it is none."""
    if given is not None:
        PartitionFormat(given)
    return given


def encoding_name(given: object, factory: str) -> str:
    """Return Python's name of an encoding. Raises ParameterError if there is none."""
    import codecs

    name = _ENCODINGS.get(str(given).lower(), str(given))
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding:
            raise LookupError(name)
        return found.name
    except LookupError:
        raise ParameterError(
            f"{factory}: encoding {given!r} is not known; use e.g. utf8, latin1, utf16 or windows1252"
        ) from None


def _header(given: Any, factory: str) -> JsonValue:
    if isinstance(given, bool):
        return given
    name = getattr(given, "name", given)
    if isinstance(name, str) and name in _HEADERS:
        return _HEADERS[name]
    raise ParameterError(
        f"{factory}: header {given!r} is not allowed; allowed are True, False and PromoteHeadersBehavior."
        f"{{{', '.join(_HEADERS)}}}"
    )
