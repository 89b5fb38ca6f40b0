"""Blocks never cut a value in two: compared with Python's reader, on blocks so small that every cut is met."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from airflow_mlpipe.sdk.blocks import blocks_of

pyarrow = pytest.importorskip("pyarrow")

PLAIN = ["x", "1", "abc", 'q"q', "", "d,e"]
BROKEN = ["a\nb", "\n", '"\n"', "a,b\n,c", "\r\n", 'a\n\n"', "x\r\ny"]


def write(path: Path, seed: int) -> list[list[str]]:
    rng = random.Random(seed)
    pool = PLAIN + (BROKEN if rng.random() < 0.3 else [])
    rows = [[rng.choice(pool), str(rng.randrange(100))] for _ in range(rng.randrange(1, 60))]
    text = io.StringIO(newline="")
    style = {"lineterminator": rng.choice(["\n", "\r\n"]), "quoting": rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])}
    writer = csv.writer(text, **style)
    writer.writerows([["a", "b"], *rows])
    path.write_bytes(text.getvalue().encode())
    return rows


def read(path: Path, size: int, careful: bool) -> list[list[str]]:
    from pyarrow import csv as arrow_csv

    table = arrow_csv.read_csv(
        path,
        arrow_csv.ReadOptions(block_size=size),
        arrow_csv.ParseOptions(newlines_in_values=careful),
        arrow_csv.ConvertOptions(column_types={"a": pyarrow.string(), "b": pyarrow.string()}),
    )
    return [[row["a"], row["b"]] for row in table.to_pylist()]


def test_every_cut(tmp_path):
    path = tmp_path / "x.csv"
    ways = {True: 0, False: 0}
    for seed in range(600):
        rows = write(path, seed)
        for wanted in (64, 70, 101):
            size, careful = blocks_of(path, "utf-8", wanted)
            assert read(path, size, careful) == rows, (seed, wanted)
            ways[careful] += 1
    assert min(ways.values()) > 300


def test_a_file_without_quotes_is_read_in_the_fast_way(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * 100)
    assert blocks_of(path, "utf-8", 64) == (64, False)
    path.write_text("")
    assert blocks_of(path, "utf-8", 64) == (64, False)


def test_a_quoted_crlf_is_not_cut(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'a\n"' + b"x" * 60 + b'\r\n"\n')
    assert path.read_bytes()[63:65] == b"\r\n"
    assert blocks_of(path, "utf-8", 64) == (65, True)


def test_of_other_encodings_one_block_is_made(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a\n"x"\n' * 100, encoding="utf-16")
    size, careful = blocks_of(path, "utf-16", 64)
    assert careful
    assert size >= 2 * path.stat().st_size
