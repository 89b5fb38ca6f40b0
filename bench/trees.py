"""Fingerprints of data beside the least that anybody could do: a bare scan, and a BLAKE3 read by two threads.

Runs as a process of its own, so that the memory of what it reads is not taken for that of what other parts measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import Row, ratio_of, timed, times
from peers import missing, peer

FOLDERS, FILES, FILE_BYTES = 100, 100, 200_000
LARGE_BYTES = 4_000_000_000
BLOCK_BYTES = 16 << 20


def part(folder: Path) -> Iterator[Row]:
    done = subprocess.run(
        [sys.executable, __file__, str(folder / "trees")], stdout=subprocess.PIPE, text=True, check=True
    )
    yield from map(tuple, json.loads(done.stdout.splitlines()[-1]))


def rows(folder: Path) -> Iterator[Row]:
    many, large = folder / "many", folder / "large"
    write_many(many)
    yield from fingerprints("10,000 files, 2 GB", many, two_threads_many, folder)
    write_large(large)
    yield from fingerprints("one file of 4 GB", large, two_threads_large, folder)


def fingerprints(name: str, path: Path, two_threads: Callable[[Path], object], folder: Path) -> Iterator[Row]:
    from airflow_mlpipe.storage.stat_index import StatIndex
    from airflow_mlpipe.storage.tree import tree_digest

    two_threads(path)  # Everything is in the page cache from here on.
    indexes = iter(range(1000))

    def first() -> None:
        with StatIndex(folder / f"{path.name}-{next(indexes)}.db") as index:
            tree_digest(path, index)

    ours, bare = ratio_of(5, lambda: timed(first), lambda: timed(lambda: two_threads(path)))
    yield f"{name}: first fingerprint; bare: read by two BLAKE3 threads", times(ours, bare), "ratio 1.5"

    known = folder / f"{path.name}-known.db"
    with StatIndex(known) as index:
        whole = tree_digest(path, index)

    def again() -> None:
        with StatIndex(known) as index:
            if tree_digest(path, index) != whole:
                sys.exit(f"{path} has another digest the second time")

    ours, bare = ratio_of(15, lambda: timed(again), lambda: timed(lambda: scan(path)))
    yield f"{name}: unchanged; bare: scandir and stat", times(ours, bare), "ratio 2"
    victim = next(each for each in path.rglob("*") if each.is_file())
    change_silently(victim)
    with StatIndex(known) as index:
        seen = tree_digest(path, index).digest != whole.digest
    yield f"{name}: other content of one file, its size and mtime as before", "seen" if seen else "NOT SEEN", "seen"
    yield from dvc(name, path)


def scan(path: Path) -> int:
    """Stat everything below a folder; return the number of files."""
    count, folders = 0, [str(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    count += 1
    return count


def two_threads_many(path: Path) -> None:
    from blake3 import blake3

    files = [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]

    def read(half: list[str]) -> None:
        for each in half:
            with open(each, "rb", buffering=0) as file:  # noqa: PTH123 - a Path would cost more than the bare read
                blake3(file.read()).digest()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, (files[::2], files[1::2])))


def two_threads_large(path: Path) -> None:
    from blake3 import blake3

    blake3(max_threads=2).update_mmap(path / "large.bin").digest()


def write_many(folder: Path) -> None:
    block = os.urandom(FILE_BYTES)
    for i in range(FOLDERS):
        (folder / f"{i:03}").mkdir(parents=True)
        for j in range(FILES):
            (folder / f"{i:03}" / f"{j:03}.bin").write_bytes(b"%08d" % (i * FILES + j) + block[8:])


def write_large(folder: Path) -> None:
    folder.mkdir(parents=True)
    block = os.urandom(BLOCK_BYTES)
    with (folder / "large.bin").open("wb") as file:
        for start in range(0, LARGE_BYTES, BLOCK_BYTES):
            file.write(b"%016d" % start + block[16 : min(BLOCK_BYTES, LARGE_BYTES - start)])


def change_silently(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"changed!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def dvc(name: str, path: Path) -> Iterator[Row]:
    """Measure DVC on the same files, where it is installed."""
    found = peer("dvc")
    if found is None:
        yield f"{name}: DVC", missing("dvc")
        return

    def call(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([str(found / "dvc"), *arguments], cwd=path.parent, check=True, capture_output=True)
        return time.perf_counter() - started

    if not (path.parent / ".dvc").exists():
        call("init", "--no-scm", "-q")
        call("config", "cache.type", "hardlink")
    first = call("add", "-q", path.name)
    status = min(call("status", "-q", f"{path.name}.dvc") for _ in range(3))
    yield f"{name}: dvc add, first; dvc status, unchanged (whole processes)", f"{first:.2f} s; {status:.3f} s"


if __name__ == "__main__":
    print(json.dumps(list(rows(Path(sys.argv[1])))))
