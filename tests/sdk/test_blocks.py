"""Blocks never cut a value in two: compared with Python's reader, on blocks so small that every cut is met."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from airflow_mlpipe.sdk.blocks import careful_size, read_uncut

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


def ways_of(path: Path, encoding: str = "utf-8", size: int = 64) -> list[bool]:
    """In which ways a file is read: careful or not."""
    ways: list[bool] = []
    read_uncut(path, encoding, lambda size, careful: ways.append(careful), size)
    return ways


def test_every_cut(tmp_path):
    path = tmp_path / "x.csv"
    seen = {True: 0, False: 0}
    for seed in range(600):
        rows = write(path, seed)
        for size in (64, 70, 101):
            ways = []

            def once(size, careful, ways=ways):
                ways.append(careful)
                return read(path, size, careful)

            assert read_uncut(path, "utf-8", once, size) == rows, (seed, size)
            seen[ways[-1]] += 1
    assert min(seen.values()) > 300


def test_the_fast_way_is_enough_where_no_cut_is_in_quotes(tmp_path):
    path = tmp_path / "x.csv"
    for text in ("a,b\n" + "1,2\n" * 100, "a\n" + '"x,y"\n' * 100, ""):
        path.write_text(text)
        assert ways_of(path) == [False]


def test_a_cut_in_quotes_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a\n"' + "x\n" * 100 + '"\n' + "y\n" * 5000)
    assert ways_of(path) == [True]
    # Far behind the first blocks, which are looked at before: it is noticed beside the reader.
    path.write_text("a\n" + "y\n" * 5000 + '"' + "x\n" * 100 + '"\n')
    assert ways_of(path) == [False, True]


def test_what_the_fast_way_cannot_read_is_told_only_if_no_cut_is_the_reason(tmp_path):
    path = tmp_path / "x.csv"

    def refuse(size, careful):
        if not careful:
            raise ValueError("no")
        return "read"

    path.write_text("a\n" + "y\n" * 5000 + '"' + "x\n" * 100 + '"\n')
    assert read_uncut(path, "utf-8", refuse, 64) == "read"
    path.write_text("a\n1\n")
    with pytest.raises(ValueError, match="no"):
        read_uncut(path, "utf-8", refuse, 64)


def test_a_quoted_crlf_is_not_cut(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'a\n"' + b"x" * 60 + b'\r\n"\n')
    assert path.read_bytes()[63:65] == b"\r\n"
    assert careful_size(path, "utf-8", 64) == 65


def test_of_other_encodings_one_block_is_made(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a\n"x"\n' * 100, encoding="utf-16")
    assert ways_of(path, "utf-16") == [True]
    assert careful_size(path, "utf-16", 64) >= 2 * path.stat().st_size
