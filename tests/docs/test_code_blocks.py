"""Every code block of README.md and docs/ does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, Reader, blocks_of

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

IN_CONTAINERS = {ROOT / "docs" / "how-to" / "docker.md"}

CASES = [
    pytest.param(document, index, id=f"{document.relative_to(ROOT)}:{block.line}-{block.language}")
    for document in DOCUMENTS
    if document.is_file()
    for index, block in enumerate(blocks_of(document))
    if block.runs
]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Reader]]:
    """One reader for each document, made when its first block is due."""
    open_readers: dict[Path, Reader] = {}
    yield open_readers
    for reader in open_readers.values():
        reader.close()


@pytest.mark.airflow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("document", "index"), CASES)
def test_block(
    document: Path,
    index: int,
    readers: dict[Path, Reader],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = blocks_of(document)[index]
    if block.not_run is not None:
        pytest.skip(f"not run: {block.not_run}")
    if document in IN_CONTAINERS:
        # A reader has an image of a registry. Skips where there is no engine.
        monkeypatch.setenv("IMAGE", request.getfixturevalue("python_image"))
    if document not in readers:
        readers[document] = Reader(document, tmp_path_factory.mktemp(document.stem))
    readers[document].run(index)


def test_there_is_something_to_read() -> None:
    assert (ROOT / "README.md").is_file()
    assert CASES
