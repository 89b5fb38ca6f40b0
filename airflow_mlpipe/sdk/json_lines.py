"""Reading one file of JSON lines into an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError, StorageError
from airflow_mlpipe.model.digest import JsonValue

if TYPE_CHECKING:
    import pyarrow


def read_json_lines(path: Path, options: Mapping[str, JsonValue]) -> pyarrow.Table:
    """Return the rows of a file: one JSON object a line, each name a column.

    Args:
        path: the file.
        options: ``encoding``, and ``invalid_lines``: ``error`` or ``drop``.

    Raises:
        ParameterError: if a line is no JSON object; it names the line.
        StorageError: if the file cannot be read.
    """
    import pyarrow

    encoding = str(options.get("encoding", "utf-8"))
    if encoding == "utf-8":
        from pyarrow import json as arrow_json

        try:
            if not path.stat().st_size:
                return pyarrow.table({})
            table = arrow_json.read_json(path)
            # It takes any bytes for text.
            table.validate(full=True)
            return table
        except pyarrow.ArrowInvalid:
            # Invalid lines or text, a column of several types, or a line longer than a block.
            pass
        except OSError as error:
            raise StorageError(f"'{path}' cannot be read: {error.strerror}") from error
    return _line_by_line(path, encoding, drop=options.get("invalid_lines") == "drop")


def _line_by_line(path: Path, encoding: str, *, drop: bool) -> pyarrow.Table:
    import pyarrow

    rows: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = _object(line)
                if row is not None:
                    rows.append(row)
                elif not drop:
                    raise ParameterError(
                        f"'{path}', line {number}: {line.strip()[:60]!r} is no JSON object; correct it, or give "
                        "invalid_lines='drop'"
                    )
    except UnicodeError as error:
        raise ParameterError(f"'{path}' cannot be read with encoding {encoding!r}: {error}") from error
    except OSError as error:
        raise StorageError(f"'{path}' cannot be read: {error.strerror}") from error
    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _column(values: list[Any]) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        # Several types in one column: text, as they are written.
        return pyarrow.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
