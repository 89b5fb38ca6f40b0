"""Reading tables into pandas beside what pyarrow alone needs for the same bytes.

Runs as a process of its own, so that the memory of what it reads is not taken for that of what other parts measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, ratio_of, timed, times

CSV_BYTES = 1_000_000_000
_ROWS_AT_ONCE = 500_000


def part(folder: Path) -> Iterator[Row]:
    done = subprocess.run(
        [sys.executable, __file__, str(folder / "tables")], stdout=subprocess.PIPE, text=True, check=True
    )
    yield from map(tuple, json.loads(done.stdout.splitlines()[-1]))


def rows(folder: Path, size_bytes: int = CSV_BYTES) -> Iterator[Row]:
    from pyarrow import csv

    from airflow_mlpipe import Dataset, Workspace

    store = Workspace.create("tables", path=folder).get_default_datastore()
    path = Path(store.workspace.local_store(store.name).path_of("in/table.csv"))
    path.parent.mkdir(parents=True)
    write_csv(path, size_bytes)
    dataset = Dataset.Tabular.from_delimited_files((store, "in/table.csv"))
    whole = csv.read_csv(path).num_rows  # Everything is in the page cache from here on.
    if len(dataset.to_pandas_dataframe()) != whole:
        sys.exit("the dataset has not the rows of its file")

    ours, bare = ratio_of(
        7,
        lambda: timed(lambda: dataset.to_pandas_dataframe()),
        # Without a word pandas would get an object for each date, which takes longer than all the rest.
        lambda: timed(lambda: csv.read_csv(path).to_pandas(date_as_object=False)),
    )
    shown = f"CSV of {path.stat().st_size / 1e9:.2f} GB, 10 columns, to pandas; bare: pyarrow alone"
    yield shown, times(ours, bare), "ratio 1.2"
    two = dataset.keep_columns(["f0", "i0"])
    ours, bare = ratio_of(
        3,
        lambda: timed(lambda: two.to_pandas_dataframe()),
        lambda: timed(lambda: dataset.to_pandas_dataframe()),
    )
    yield "two of its columns; bare: all", times(ours, bare)
    ours, bare = ratio_of(
        3,
        lambda: timed(lambda: dataset.take(5).to_pandas_dataframe()),
        lambda: timed(lambda: dataset.to_pandas_dataframe()),
    )
    yield "its first five rows; bare: all", times(ours, bare)


def write_csv(path: Path, size_bytes: int) -> None:
    """Write numbers, short texts with gaps, and dates."""
    import numpy
    import pyarrow
    from pyarrow import csv

    random = numpy.random.default_rng(0)
    n = _ROWS_AT_ONCE
    columns = {f"f{i}": random.random(n) for i in range(4)} | {f"i{i}": random.integers(0, 10**6, n) for i in range(3)}
    for name in ("s0", "s1"):
        columns[name] = numpy.array(["abc", "de", "", "wxyz"])[random.integers(0, 4, n)]
    columns["day"] = numpy.datetime64("2020-01-01") + random.integers(0, 1000, n).astype("timedelta64[D]")
    table = pyarrow.table(columns)
    with csv.CSVWriter(path, table.schema) as writer:
        while path.stat().st_size < size_bytes:
            writer.write_table(table)


if __name__ == "__main__":
    print(json.dumps(list(rows(Path(sys.argv[1]), *map(int, sys.argv[2:])))))
