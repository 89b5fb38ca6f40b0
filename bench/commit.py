"""What it costs to make an output of many small files durable and known, beside writing and syncing them alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import Row, timed, times

FILES, FILE_BYTES, REPEATS = 2000, 2000, 5


def part(folder: Path) -> Iterator[Row]:
    turns = [once(folder / f"commit{turn}") for turn in range(REPEATS)]
    ours, one_by_one, together = (min(column) for column in zip(*turns, strict=True))
    name = f"{FILES:,} files of {FILE_BYTES:,} bytes written and committed; bare: write them"
    yield f"{name} and fsync each and the folder", times(ours, one_by_one), "ratio 2"
    yield f"{name}, then fsync from eight threads", times(ours, together), "ratio 2"


def once(folder: Path) -> tuple[float, float, float]:
    """Return writing and committing, and both bare practices, in seconds."""
    from airflow_mlpipe.model.data import OutputSpec
    from airflow_mlpipe.storage.datastore import LocalStore
    from airflow_mlpipe.storage.outputs import attempt_path, commit_output, verify_output
    from airflow_mlpipe.storage.stat_index import StatIndex

    store = LocalStore("blob", folder / "blob")
    written = store.path_of(attempt_path("data", "attempt", "out"))
    with StatIndex(folder / "index.db") as index:
        started = time.perf_counter()
        write(written)
        record = commit_output(OutputSpec(name="out", datastore="blob"), "attempt", store, index)
        ours = time.perf_counter() - started
    if record.files != FILES or verify_output(record, store) is not None:
        sys.exit(f"the commit is not what was written: {record}")
    one_by_one, together = folder / "one-by-one", folder / "together"
    return ours, timed(lambda: write_and_sync(one_by_one)), timed(lambda: write_then_sync(together))


def write(folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    paths = [f"{folder}/{number:04}.txt" for number in range(FILES)]
    for number, path in enumerate(paths):
        with open(path, "wb") as file:  # noqa: PTH123 - a Path would cost more than the bare write
            file.write(b"%08d" % number + b"x" * (FILE_BYTES - 8))
    return paths


def write_and_sync(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(FILES):
        with open(f"{folder}/{number:04}.txt", "wb") as file:  # noqa: PTH123 - as above
            file.write(b"%08d" % number + b"x" * (FILE_BYTES - 8))
            file.flush()
            os.fsync(file.fileno())
    sync(str(folder))


def write_then_sync(folder: Path) -> None:
    paths = write(folder)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync, paths))
    sync(str(folder))


def sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
