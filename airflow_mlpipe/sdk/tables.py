"""Reading delimited files into a data frame. pandas is imported here and nowhere else in this floor."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, ParameterError, StorageError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.sdk.column_types import DataType
from airflow_mlpipe.sdk.dataset_files import dataset_files
from airflow_mlpipe.sdk.partition import PartitionFormat

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from airflow_mlpipe.storage.datastore import LocalStore

PATH_COLUMN = "Path"

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def read_delimited(
    spec: DatasetSpec, store: Callable[[str], LocalStore], *, fail: bool = False, fail_dates: bool = False
) -> DataFrame:
    """Read the files of a tabular dataset into one data frame.

    Args:
        spec: the dataset.
        store: opens a datastore by name.
        fail: whether a value that has not its column's set type is an error rather than missing.
        fail_dates: the same for dates out of pandas' range.

    Raises:
        ConfigError: if pandas is not installed.
        MissingDataError: if a source matches nothing.
        ParameterError: if a file cannot be read in the way the dataset says.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("to_pandas_dataframe() needs pandas: pip install 'airflow-mlpipe[pandas]'") from None
    options = spec.options
    types = {name: DataType.from_json(kind) for name, kind in options.get("column_types", {}).items()}
    partition = PartitionFormat(options["partition_format"]) if options.get("partition_format") else None
    frames = []
    for relative, path in dataset_files(spec, store):
        frame = _read(path, options, types)
        if partition is not None:
            inside = path.as_posix()
            for name, value in partition.values(inside).items():
                frame[name] = value
        if options.get("include_path"):
            frame.insert(0, PATH_COLUMN, f"/{relative}")
        frames.append(frame)
    table = pandas.concat(frames, ignore_index=True)
    for name, kind in types.items():
        if name not in table.columns:
            there = ", ".join(map(str, table.columns))
            raise ParameterError(f"column '{name}' of set_column_types does not exist; there are: {there}")
        strict = fail_dates if kind.kind == "datetime" else fail
        table[name] = _typed(table[name], kind, name, strict)
    return table


def _read(path: Path, options: dict[str, JsonValue], types: dict[str, DataType]) -> DataFrame:
    import pandas

    header = options.get("header", True)
    text: Any = str if not options.get("infer_column_types", True) else dict.fromkeys(types, str)
    separator = options.get("separator", ",")
    try:
        frame = pandas.read_csv(
            path,
            sep=separator if len(separator) == 1 else re.escape(separator),
            header=0 if header else None,
            encoding=options.get("encoding", "utf-8"),
            dtype=text,
            keep_default_na=not options.get("empty_as_string", False),
            # The fast parser takes single characters only; the other would read them as regular expressions.
            engine="c" if len(separator) == 1 else "python",
        )
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame()
    except (UnicodeError, pandas.errors.ParserError) as error:
        raise ParameterError(
            f"'{path}' cannot be read with separator {separator!r} and encoding {options.get('encoding')!r}: {error}"
        ) from error
    except OSError as error:
        raise StorageError(f"'{path}' cannot be read: {error.strerror}") from error
    if not header:
        frame.columns = [f"Column{number + 1}" for number in range(frame.shape[1])]
    return frame


def _typed(column: Series[Any], kind: DataType, name: str, strict: bool) -> Any:
    import pandas

    if kind.kind == "string":
        return column
    if kind.kind == "bool":
        converted: Any = column.str.strip().str.lower().map(_BOOLEANS)
        converted = converted if converted.isna().any() else converted.astype(bool)
    elif kind.kind == "datetime":
        converted = _dates(column, kind.formats)
    else:
        converted = pandas.to_numeric(column, errors="coerce")
        if kind.kind == "float":
            converted = converted.astype("float64")
        elif not converted.isna().any():
            converted = converted.astype("int64")
    wrong = column[converted.isna() & column.notna() & (column != "")]
    if strict and len(wrong):
        raise ParameterError(f"column '{name}': {wrong.iloc[0]!r} is not a {kind.kind}")
    return converted


def _dates(column: Series[Any], formats: tuple[str, ...]) -> Any:
    import pandas

    if not formats:
        return pandas.to_datetime(column, errors="coerce", format="mixed")
    converted = pandas.to_datetime(column, errors="coerce", format=formats[0])
    for each in formats[1:]:
        converted = converted.fillna(pandas.to_datetime(column, errors="coerce", format=each))
    return converted
