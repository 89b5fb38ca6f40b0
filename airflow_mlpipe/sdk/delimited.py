"""Reading one delimited file into an Arrow table."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError, StorageError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.sdk.blocks import careful_size, read_uncut

if TYPE_CHECKING:
    import pyarrow

_TOO_STRICT = re.compile(r"Expected \d+ columns|straddling object")
"""Rows that are too short, which pandas fills, and rows that are longer than a block of Arrow's reader."""

_MISFIT = "conversion error"


class MisfitError(ParameterError):
    """A value has not the type that its column was to be read as."""


@dataclass(slots=True)
class Delimited:
    """How delimited files are read.

    Attributes:
        options: of the dataset.
        types: Arrow types of columns that are read as such; others are inferred.
        columns: the columns that are wanted; None for all.
    """

    options: Mapping[str, JsonValue]
    types: Mapping[str, Any] = field(default_factory=dict)
    columns: Collection[str] | None = None

    @property
    def separator(self) -> str:
        """What separates columns."""
        return str(self.options.get("separator", ","))

    @property
    def encoding(self) -> str:
        """How text is written."""
        return str(self.options.get("encoding", "utf-8"))

    def names(self, path: Path, first: Sequence[str] | None) -> list[str]:
        """Return the names of a file's columns; none for an empty file.

        Args:
            path: the file.
            first: names of the first file's columns, where only that one has them.

        Raises:
            ParameterError: if it cannot be decoded.
            StorageError: if it cannot be read.
        """
        row, _ = self._first_row(path)
        if not self._has_header(first):
            return list(first) if first is not None and row else [f"Column{n + 1}" for n in range(len(row))]
        return unique(row)

    def read(self, path: Path, names: Sequence[str], first: Sequence[str] | None, rows: int | None) -> pyarrow.Table:
        """Return the rows of a file.

        Args:
            path: the file.
            names: its columns, see :meth:`names`.
            first: likewise.
            rows: how many rows are wanted at least; None for all.

        Raises:
            MisfitError: if a value has not the type of `types`, or with `rows` the one that was inferred.
            ParameterError: if it is not as the options say.
            StorageError: if it cannot be read.
        """
        import pyarrow

        if not names:
            return pyarrow.table({})
        if len(self.separator) > 1:
            return self._by_pandas(path, names, first)
        try:
            return self._by_arrow(path, names, first, rows)
        except pyarrow.ArrowInvalid as error:
            if _TOO_STRICT.search(str(error)):
                return self._by_pandas(path, names, first)
            raise self._refused(path, error) from error
        except (UnicodeError, OSError) as error:
            raise self._refused(path, error) from error

    def _has_header(self, first: Sequence[str] | None) -> bool:
        header = self.options.get("header", True)
        return bool(header) and not (header == "first" and first is not None)

    def _by_arrow(
        self, path: Path, names: Sequence[str], first: Sequence[str] | None, rows: int | None
    ) -> pyarrow.Table:
        import pyarrow
        from pyarrow import csv as arrow_csv

        as_text = not self.options.get("infer_column_types", True)
        types = {name: pyarrow.string() for name in names if as_text} | dict(self.types)
        converting = arrow_csv.ConvertOptions(
            column_types={name: kind for name, kind in types.items() if name in names},
            include_columns=None if self.columns is None else [name for name in names if name in self.columns],
        )

        def settings(size: int, careful: bool) -> dict[str, Any]:
            reading = arrow_csv.ReadOptions(
                column_names=list(names),
                skip_rows=self._skipped(path, first),
                encoding=self.encoding,
                block_size=size,
            )
            parsing = arrow_csv.ParseOptions(delimiter=self.separator, newlines_in_values=careful)
            return {"read_options": reading, "parse_options": parsing, "convert_options": converting}

        if rows is None:
            table = read_uncut(path, self.encoding, lambda *way: arrow_csv.read_csv(path, **settings(*way)))
        else:
            way = settings(careful_size(path, self.encoding), True)
            table = _first_rows(arrow_csv.open_csv, path, way, rows)
        if any(pyarrow.types.is_binary(each.type) for each in table.schema):
            raise self._refused(path, "it holds bytes that are no text of that encoding")
        return table

    def _by_pandas(self, path: Path, names: Sequence[str], first: Sequence[str] | None) -> pyarrow.Table:
        import pandas
        import pyarrow

        as_text = [n for n in names if n in self.types or not self.options.get("infer_column_types", True)]
        try:
            frame = pandas.read_csv(
                path,
                sep=self.separator if len(self.separator) == 1 else re.escape(self.separator),
                header=None,
                names=list(names),
                skiprows=self._skipped(path, first),
                index_col=False,
                encoding=self.encoding,
                dtype=dict.fromkeys(as_text, str),
                keep_default_na=False,
                na_values=[""],
                # The fast parser takes single characters only; the other would read them as regular expressions.
                engine="c" if len(self.separator) == 1 else "python",
            )
        except (UnicodeError, ValueError, OSError) as error:
            raise self._refused(path, error) from error
        if self.columns is not None:
            frame = frame[[name for name in names if name in self.columns]]
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        return table.replace_schema_metadata(None)

    def _skipped(self, path: Path, first: Sequence[str] | None) -> int:
        return self._first_row(path)[1] if self._has_header(first) else 0

    def _first_row(self, path: Path) -> tuple[list[str], int]:
        """Return the fields of the first row that is not empty, and how many lines it ends."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        try:
            with path.open(encoding=encoding, newline="") as file:
                if len(self.separator) == 1:
                    rows = csv.reader(file, delimiter=self.separator)
                    return next((row for row in rows if row), []), rows.line_num
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        return line.rstrip("\r\n").split(self.separator), number
                return [], 0
        except (UnicodeError, OSError, csv.Error) as error:
            raise self._refused(path, error) from error

    def _refused(self, path: Path, error: object) -> Exception:
        if isinstance(error, OSError):
            return StorageError(f"'{path}' cannot be read: {error.strerror}")
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnicodeError):
            text += "; say with encoding= how it was written, e.g. 'windows1252'"
        kind = MisfitError if _MISFIT in text else ParameterError
        return kind(f"'{path}' cannot be read with separator {self.separator!r} and encoding {self.encoding!r}: {text}")


def unique(names: Sequence[str]) -> list[str]:
    """Return `names` as names of columns: blank ones by their position, repeated ones with a number."""
    made: list[str] = []
    for number, name in enumerate(names, start=1):
        wanted = name if name.strip() else f"Column{number}"
        copy, made_name = 1, wanted
        while made_name in made:
            made_name = f"{wanted}_{copy}"
            copy += 1
        made.append(made_name)
    return made


def _first_rows(open_csv: Any, path: Path, settings: Mapping[str, Any], rows: int) -> pyarrow.Table:
    import pyarrow

    batches = []
    with open_csv(path, **settings) as reader:
        schema = reader.schema
        while rows > 0:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            batches.append(batch)
            rows -= batch.num_rows
    return pyarrow.Table.from_batches(batches, schema)
