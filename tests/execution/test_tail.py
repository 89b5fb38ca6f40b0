from __future__ import annotations

from airflow_mlpipe.execution.tail import LINES, LOOK_BYTES, Tail


def shown(path, last=True):
    tail = Tail(path)
    try:
        return list(tail.lines(last))
    finally:
        tail.close()


def test_lines_come_as_they_are_written(tmp_path):
    path = tmp_path / "out"
    path.touch()
    tail = Tail(path)
    with path.open("ab", buffering=0) as file:
        assert list(tail.lines(False)) == []
        file.write(b"one\ntw")
        assert list(tail.lines(False)) == ["one"]
        file.write(b"o\n\xff\n")
        assert list(tail.lines(False)) == ["two", "\ufffd"]
        file.write(b"end")
        assert list(tail.lines(False)) == []
        assert list(tail.lines(True)) == ["end"]
    tail.close()


def test_of_too_many_lines_the_latest_are_shown(tmp_path):
    path = tmp_path / "out"
    path.write_text("".join(f"{n}\n" for n in range(LINES + 10)))
    first, *rest = shown(path)
    assert first == "[20 bytes are not shown here; the step's own log has them]"
    assert rest == [str(n) for n in range(10, LINES + 10)]


def test_what_is_too_long_to_be_read_is_passed_over_up_to_a_whole_line(tmp_path):
    path = tmp_path / "out"
    line = "x" * 999
    path.write_text(f"{line}\n" * 5000 + "end\n")
    first, *rest = shown(path)
    hidden = 5_000_004 - sum(len(each) + 1 for each in rest)
    assert first == f"[{hidden:,} bytes are not shown here; the step's own log has them]"
    assert set(rest[:-1]) == {line}
    assert rest[-1] == "end"
    assert len(rest) == LOOK_BYTES // 1000 + 1


def test_a_line_without_an_end_does_not_pile_up(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"y" * (3 * LOOK_BYTES))
    first, rest = shown(path, last=False)
    assert first.startswith(f"[{2 * LOOK_BYTES:,} bytes")
    assert rest == "y" * LOOK_BYTES
