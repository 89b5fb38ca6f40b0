"""The reader of documents finds mistakes: a document that lies must fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import BlockFailedError, Reader, blocks_of, commands_of

FENCE = "```"


@pytest.fixture
def read(tmp_path: Path) -> Iterator[object]:
    readers: list[Reader] = []

    def reader_of(text: str) -> Reader:
        document = tmp_path / "page.md"
        # The word that tells the reader not to make a workspace: these pages need none.
        document.write_text(text.replace("~~~", FENCE) + f"\n{FENCE}python\n# Workspace.create\n{FENCE}\n")
        folder = tmp_path / "reader"
        folder.mkdir()
        readers.append(Reader(document, folder))
        return readers[-1]

    yield reader_of
    for reader in readers:
        reader.close()


def last(reader: Reader) -> int:
    return len(reader.blocks) - 1


def test_names_live_on_from_block_to_block(read) -> None:
    reader = read("~~~python\nx = 40\n~~~\ntext\n~~~python\nassert x + 2 == 42\n~~~\n")
    reader.run(last(reader))


def test_the_last_block_alone_runs_those_before_it_once(read) -> None:
    reader = read("~~~bash\necho a >> log\n~~~\n~~~bash\ntest $(wc -l < log) = 1\n~~~\n")
    reader.run(1)
    reader.run(1)


def test_python_that_raises_fails_and_names_the_line(read) -> None:
    reader = read("one\n\n~~~python\n1 / 0\n~~~\n")
    with pytest.raises(BlockFailedError, match=r"page.md:3: (.|\n)*ZeroDivisionError"):
        reader.run(0)


def test_a_failing_command_fails_even_before_the_last_line(read) -> None:
    reader = read("~~~bash\nfalse\ntrue\n~~~\n")
    with pytest.raises(BlockFailedError, match="exit code 1"):
        reader.run(0)


def test_cd_lasts(read) -> None:
    reader = read("~~~bash\nmkdir sub && cd sub\n~~~\n~~~bash\ntest $(basename $PWD) = sub\n~~~\n")
    reader.run(1)


def test_console_output_is_compared(read) -> None:
    reader = read("~~~console\n$ echo run 7f3a took 12 s\nrun ... took 12 s\n~~~\n~~~console\n$ echo a\nb\n~~~\n")
    reader.run(0)
    with pytest.raises(BlockFailedError, match="but the document says"):
        reader.run(1)


def test_a_named_block_becomes_a_file(read) -> None:
    reader = read("~~~python\n# steps/a.py\nprint(1)\n~~~\n~~~bash\ngrep -q 'print(1)' steps/a.py\n~~~\n")
    reader.run(1)


def test_a_marked_block_is_left_out(read) -> None:
    reader = read("<!-- not run: needs a cluster -->\n~~~bash\nfalse\n~~~\n~~~bash\ntrue\n~~~\n")
    assert [b.not_run for b in reader.blocks[:2]] == ["needs a cluster", None]
    reader.run(1)


def test_other_languages_are_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{FENCE}json\n{{}}\n{FENCE}\n{FENCE}\nplain\n{FENCE}\n- item\n\n  {FENCE}sh\n  true\n  {FENCE}\n")
    assert [(b.language, b.runs) for b in blocks_of(page)] == [("json", False), ("", False), ("sh", True)]
    assert blocks_of(page)[2].text == "true\n"


def test_an_open_block_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{FENCE}bash\ntrue\n")
    with pytest.raises(ValueError, match="never closed"):
        blocks_of(page)


def test_commands_are_split_from_what_they_print() -> None:
    assert commands_of("$ a \\\n> b\nout\n$ c\n") == [("a \\\nb", "out\n"), ("c", "")]


def test_mlpipe_and_python_are_this_checkout(read) -> None:
    reader = read("~~~bash\npython -c 'import airflow_mlpipe; print(airflow_mlpipe.__file__)'\nwhich mlpipe\n~~~\n")
    reader.run(0)
