"""Runs the code blocks of a Markdown file, in order, as a reader would.

- ``python`` blocks run one after the other in one interpreter, so names live on from block to block.
- ``bash`` and ``sh`` blocks are scripts that end at the first failure; ``cd`` lasts to the next block.
- ``console`` blocks run what follows ``$ `` (``> `` goes on with it) and compare what is printed with the lines below,
  where ``...`` stands for anything. No lines: nothing is compared.
- A block whose first line is a comment with a file name - ``# steps/train.py`` - is written to that file, not run.
- Other languages are only text.
- ``<!-- not run: reason -->`` on the line before a block leaves it out.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240

FILE_NAME = re.compile(r"^#\s+([\w.-]+(?:/[\w.-]+)*\.(?:py|ya?ml|toml|json|sh|txt|cfg|csv)|\.(?:aml|git)ignore)\s*$")
NOT_RUN = re.compile(r"^\s*<!--\s*not run:\s*(?P<reason>.*\S)\s*-->\s*$")
FENCE = re.compile(r"^(?P<indent>\s*)(?P<ticks>`{3,})(?P<language>[\w+-]*)")

# Reads {"path", "cwd"} a line, runs the file in one namespace, answers {"failed", "cwd"} a line on a pipe of its own.
DRIVER = r"""
import json, os, sys, traceback
answers = os.fdopen(int(sys.argv[1]), "w")
sys.path.insert(0, "")
names = sys.modules["__main__"].__dict__
for line in sys.stdin:
    task = json.loads(line)
    os.chdir(task["cwd"])
    names["__file__"] = task["path"]
    failed = ""
    try:
        with open(task["path"], encoding="utf-8") as file:
            exec(compile(file.read(), task["path"], "exec"), names)
    except BaseException:
        failed = traceback.format_exc()
    sys.stdout.flush(); sys.stderr.flush()
    answers.write(json.dumps({"failed": failed, "cwd": os.getcwd()}) + "\n"); answers.flush()
"""


class BlockFailedError(AssertionError):
    """A block did not do what the document says."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it is, and why it is left out, if it is."""

    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def file_name(self) -> str | None:
        """The file this block is the content of, or None."""
        lines = self.text.splitlines()
        match = FILE_NAME.match(lines[0]) if lines else None
        return match.group(1) if match else None

    @property
    def runs(self) -> bool:
        """Whether there is anything to execute or to write."""
        return self.file_name is not None or self.language in {"python", "py", "bash", "sh", "console"}


def blocks_of(document: Path) -> list[Block]:
    """Returns the fenced blocks of `document`, in order."""
    found: list[Block] = []
    lines = document.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if not opening:
            continue
        start, indent = number, len(opening["indent"])
        while number < len(lines) and lines[number].strip() != opening["ticks"]:
            number += 1
        if number == len(lines):
            raise ValueError(f"{document}:{start}: this block is never closed")
        text = "".join(f"{line[indent:] if line[:indent].isspace() else line}\n" for line in lines[start:number])
        before = NOT_RUN.match(lines[start - 2]) if start > 1 else None
        found.append(Block(start, opening["language"], text, before["reason"] if before else None))
        number += 1
    return found


def commands_of(text: str) -> list[tuple[str, str]]:
    """Splits a console block into (command, expected output) pairs."""
    pairs: list[tuple[str, str]] = []
    printed = False
    for line in text.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
            printed = False
        elif line.startswith("> ") and pairs and not printed:
            pairs[-1] = (f"{pairs[-1][0]}\n{line[2:]}", "")
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}{line}\n")
            printed = True
        elif line.strip():
            raise BlockFailedError(f"a console block starts with '$ COMMAND', not with '{line}'")
    return pairs


class Reader:
    """Works through one document in a folder of its own, beside a copy of examples/."""

    def __init__(self, document: Path, folder: Path) -> None:
        self.document = document
        self.blocks = blocks_of(document)
        self.folder = folder
        self.cwd = folder
        self.next = 0
        self.driver: subprocess.Popen[str] | None = None
        self.answers: IO[str] | None = None
        self.environment = self._environment()
        if (ROOT / "examples").is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".mlpipe")
            shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)
        if not any("mlpipe init" in b.text or "Workspace.create" in b.text for b in self.blocks if b.not_run is None):
            self._shell("mlpipe init")

    def _environment(self) -> dict[str, str]:
        """PATH begins with `mlpipe`, `python` and `python3` of this interpreter and this checkout."""
        scripts = self.folder / ".bin"
        scripts.mkdir()
        main = "import sys; from airflow_mlpipe.cli import main; sys.exit(main())"
        for name, words in {"mlpipe": f'-c "{main}"', "python": "", "python3": ""}.items():
            script = scripts / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            script.chmod(0o755)
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def run(self, index: int) -> None:
        """Runs block `index`, and first every block before it that has not run yet.

        Raises:
            BlockFailedError: if a block fails; the message holds the place and what was printed.
        """
        while self.next <= index:
            block = self.blocks[self.next]
            self.next += 1
            if block.not_run is None and block.runs:
                self._run(block)

    def _run(self, block: Block) -> None:
        try:
            if block.file_name is not None:
                path = self.cwd / block.file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language in {"python", "py"}:
                self._python(block)
            elif block.language == "console":
                for command, expected in commands_of(block.text):
                    compare(command, expected, self._shell(command))
            else:
                self._shell(block.text)
        except BlockFailedError as error:
            raise BlockFailedError(f"{self.document.name}:{block.line}: {error}") from None

    def _shell(self, script: str) -> str:
        """Runs `script` with bash and returns what it printed, both streams together."""
        where = self.folder / ".cwd"
        text = f"set -eo pipefail\ntrap 'pwd > \"{where}\"' EXIT\n{script}\n"
        try:
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise BlockFailedError(f"no end after {TIMEOUT_S} s\n{late.stdout!r}") from None
        self.cwd = Path(where.read_text().strip())
        if done.returncode != 0:
            raise BlockFailedError(f"exit code {done.returncode}\n{script}\n{done.stdout}")
        return done.stdout

    def _python(self, block: Block) -> None:
        # Beside the reader's own files, as a notebook cell would be; the name tells the place in a traceback.
        path = self.cwd / f".{self.document.stem}_{block.line}.py"
        path.write_text(block.text, encoding="utf-8")
        if self.driver is None:
            self._start_driver()
        assert self.driver is not None
        assert self.driver.stdin is not None
        assert self.answers is not None
        self.driver.stdin.write(json.dumps({"path": str(path), "cwd": str(self.cwd)}) + "\n")
        self.driver.stdin.flush()
        ready, _, _ = select.select([self.answers], [], [], TIMEOUT_S)
        line = self.answers.readline() if ready else ""
        path.unlink()
        if not line:
            raise BlockFailedError(f"no end after {TIMEOUT_S} s, or the interpreter died\n{self._printed()}")
        answer = json.loads(line)
        self.cwd = Path(answer["cwd"])
        if answer["failed"]:
            raise BlockFailedError(f"{answer['failed']}\n{self._printed()}")

    def _start_driver(self) -> None:
        ours, theirs = os.pipe()
        with (self.folder / ".printed").open("w") as printed:
            self.driver = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(theirs)],
                cwd=self.cwd,
                env=self.environment,
                pass_fds=[theirs],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
            )
        os.close(theirs)
        self.answers = os.fdopen(ours)

    def _printed(self) -> str:
        return "\n".join((self.folder / ".printed").read_text("utf-8", errors="replace").splitlines()[-30:])

    def close(self) -> None:
        """Ends the interpreter of the python blocks, and a server that a block started and none stopped."""
        if (self.folder / ".mlpipe" / "airflow" / "server.json").exists():
            self._shell("mlpipe up --stop")
        if self.driver is not None:
            assert self.driver.stdin is not None
            assert self.answers is not None
            self.driver.stdin.close()
            self.answers.close()
            try:
                self.driver.wait(10)
            except subprocess.TimeoutExpired:
                self.driver.kill()
                self.driver.wait()


def compare(command: str, expected: str, printed: str) -> None:
    """Compares what `command` printed with the document, where ``...`` stands for anything.

    Raises:
        BlockFailedError: if they differ.
    """
    wanted = expected.replace("…", "...")
    if wanted.strip() and not OutputChecker().check_output(wanted, printed, ELLIPSIS | NORMALIZE_WHITESPACE):
        raise BlockFailedError(f"'{command}' printed\n{printed}\nbut the document says\n{expected}")
