"""What each tool notices. A time says little without it: the fewer questions are asked, the sooner they are answered.

One pipeline of two scripts, the second reading what the first wrote. It is run, then something happens to its files,
then the same command runs again, and what lies in the last output is compared with what should.

    .venv/bin/python bench/correctness.py           # the table alone
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import Row
from peers import missing, peer

SCRIPT = """import sys
with open(sys.argv[1]) as source:
    text = source.read()
with open(sys.argv[2], "w") as target:
    target.write("{name}(" + text + ")")
"""
LIMIT_S = 180


class Tool:
    """A tool, and how one tells it of the two scripts. Its folder holds a.py, b.py and in.txt; it writes a.txt, b.txt.

    Attributes:
        name: towards people.
        programs: the name of its environment; empty for none.
    """

    name = ""
    programs = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def env(self) -> dict[str, str]:
        own = peer(self.programs)
        path = os.environ["PATH"] if own is None else f"{own}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "PYTHONPATH": str(self.folder)}

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, text=True, timeout=LIMIT_S, check=False,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        if done.returncode:
            raise ToolError(f"{' '.join(command)} exited {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def prepare(self) -> None:
        """Write the pipeline."""

    def run(self) -> None:
        """Run it."""

    @property
    def source(self) -> Path:
        return self.folder / "in.txt"

    def script(self, name: str) -> Path:
        return self.folder / f"{name}.py"

    def output(self, name: str) -> Path:
        """Where the output of a script lies now."""
        return self.folder / f"{name}.txt"


class ToolError(Exception):
    """A tool's command failed."""


class Ours(Tool):
    name = "airflow-mlpipe"

    PIPELINE = """
from airflow_mlpipe import Dataset, Pipeline, PipelineData, PythonScriptStep, Workspace

ws = Workspace.from_config()
store = ws.get_default_datastore()
read = Dataset.File.from_files((store, "in.txt")).as_named_input("data").as_mount()
for name in ("a", "b"):
    out = PipelineData(f"out_{name}", datastore=store)
    arguments = [read, out]
    step = PythonScriptStep("main.py", name=name, source_directory=name, arguments=arguments, outputs=[out])
    read = out.as_input("previous")
pipeline = Pipeline(ws, steps=[step], name="two")
"""
    LATEST = """
import sys
from airflow_mlpipe import PipelineRun, Workspace
ws = Workspace.from_config()
name = sys.argv[1]
latest = ws.catalog.list_runs(limit=1)[0]
print(PipelineRun.get(ws, latest.id).step(name).get_output_data(f"out_{name}").path_on_disk())
"""

    def prepare(self) -> None:
        self.call(str(Path(sys.executable).with_name("mlpipe")), "init")
        shutil.move(self.folder / "in.txt", self.source)
        for name in ("a", "b"):
            (self.folder / name).mkdir()
            shutil.move(self.folder / f"{name}.py", self.script(name))
        (self.folder / "pipeline.py").write_text(self.PIPELINE)

    def run(self) -> None:
        self.call(str(Path(sys.executable).with_name("mlpipe")), "run", "pipeline.py")

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"MLPIPE_HOME": str(self.folder / "home")}

    @property
    def source(self) -> Path:
        return self.folder / ".mlpipe/stores/workspaceblobstore/in.txt"

    def script(self, name: str) -> Path:
        return self.folder / name / "main.py"

    def output(self, name: str) -> Path:
        return Path(self.call(sys.executable, "-c", self.LATEST, name).strip())


class Make(Tool):
    name = "GNU make"

    def prepare(self) -> None:
        rules = [
            f"{name}.txt: {name}.py {read}\n\t{sys.executable} {name}.py {read} {name}.txt\n"
            for name, read in (("b", "a.txt"), ("a", "in.txt"))
        ]
        (self.folder / "Makefile").write_text("\n".join(rules))

    def run(self) -> None:
        self.call("make", "-s", "b.txt")


class Dvc(Tool):
    name, programs = "DVC", "dvc"

    def prepare(self) -> None:
        stages = "".join(
            f"  {name}:\n    cmd: {sys.executable} {name}.py {read} {name}.txt\n"
            f"    deps: [{name}.py, {read}]\n    outs: [{name}.txt]\n"
            for name, read in (("a", "in.txt"), ("b", "a.txt"))
        )
        (self.folder / "dvc.yaml").write_text(f"stages:\n{stages}")
        self.call("dvc", "init", "--no-scm", "-q")

    def run(self) -> None:
        self.call("dvc", "repro", "-q")


class Snakemake(Tool):
    name, programs = "Snakemake", "snakemake"

    def prepare(self) -> None:
        rules = [
            f'rule {name}:\n    input: "{name}.py", "{read}"\n    output: "{name}.txt"\n'
            f'    shell: "{sys.executable} {{input}} {{output}}"\n'
            for name, read in (("b", "a.txt"), ("a", "in.txt"))
        ]
        (self.folder / "Snakefile").write_text("\n".join(rules))

    def run(self) -> None:
        self.call("snakemake", "--cores", "1", "-q", "all", "--", "b.txt")


class Redun(Tool):
    name, programs = "redun", "redun"

    def prepare(self) -> None:
        (self.folder / "flow.py").write_text(f"""
import subprocess
from redun import File, task

redun_namespace = "two"

@task()
def script(program: File, read: File, written: str) -> File:
    subprocess.run([{sys.executable!r}, program.path, read.path, written], check=True)
    return File(written)

@task()
def main() -> File:
    return script(File("b.py"), script(File("a.py"), File("in.txt"), "a.txt"), "b.txt")
""")

    def run(self) -> None:
        self.call("redun", "run", "flow.py", "main")


class Hamilton(Tool):
    name, programs = "Hamilton, cache", "hamilton"

    def prepare(self) -> None:
        nodes = "".join(
            f"def {name}({name}_code: str, {read}: str) -> str:\n"
            f"    subprocess.run([{sys.executable!r}, '{name}.py', '{file}', '{name}.txt'], check=True)\n"
            f"    return open('{name}.txt').read()\n\n"
            for name, read, file in (("a", "data", "in.txt"), ("b", "a", "a.txt"))
        )
        (self.folder / "nodes.py").write_text(f"import subprocess\n\n{nodes}")
        (self.folder / "flow.py").write_text("""
import nodes
from hamilton import driver

texts = {"a_code": open("a.py").read(), "b_code": open("b.py").read(), "data": open("in.txt").read()}
driver.Builder().with_modules(nodes).with_cache(path="cache").build().execute(["b"], inputs=texts)
""")

    def run(self) -> None:
        self.call("python", "flow.py")


def deleted_output(tool: Tool) -> str:
    tool.output("b").unlink()
    return "b(a(hello))"


def changed_script(tool: Tool) -> str:
    tool.script("a").write_text(SCRIPT.format(name="A"))
    return "b(A(hello))"


def same_stat(tool: Tool) -> str:
    before = tool.source.stat()
    tool.source.write_text("HELLO")
    os.utime(tool.source, ns=(before.st_atime_ns, before.st_mtime_ns))
    return "b(a(HELLO))"


def truncated_output(tool: Tool) -> str:
    path = tool.output("b")
    path.chmod(0o644)
    os.truncate(path, 3)
    return "b(a(hello))"


EVENTS = {
    "deleted output restored?": deleted_output,
    "changed script seen?": changed_script,
    "same mtime and size, other content seen?": same_stat,
    "truncated output seen?": truncated_output,
}
TOOLS = (Ours, Make, Dvc, Snakemake, Redun, Hamilton)


def part(folder: Path) -> Iterator[Row]:
    for kind, answers in table(folder):
        told = [f"{event}: {answer}" for event, answer in zip(EVENTS, answers, strict=True)] if answers else []
        yield f"correctness: {kind.name}", "; ".join(told) or missing(kind.programs)


def table(folder: Path) -> Iterator[tuple[type[Tool], list[str]]]:
    """Run each tool; yield what it made of each event, or nothing if it is not installed."""
    for kind in TOOLS:
        there = not kind.programs or peer(kind.programs) is not None
        yield (
            kind,
            [
                noticed(kind, folder / f"{kind.__name__}-{i}", EVENTS[event])
                for i, event in enumerate(EVENTS if there else ())
            ],
        )


def noticed(kind: type[Tool], folder: Path, event: Callable[[Tool], str]) -> str:
    """Let something happen between two runs of one command; tell whether the second one puts it right."""
    folder.mkdir(parents=True)
    tool = kind(folder)
    (folder / "in.txt").write_text("hello")
    for name in ("a", "b"):
        (folder / f"{name}.py").write_text(SCRIPT.format(name=name))
    tool.prepare()
    tool.run()
    if tool.output("b").read_text() != "b(a(hello))":
        sys.exit(f"{tool.name} does not run the two scripts: {tool.output('b').read_text()!r}")
    wanted = event(tool)
    try:
        tool.run()
    except ToolError as error:
        return f"refuses ({str(error).splitlines()[-1][:80]})"
    path = tool.output("b")
    return "yes" if path.exists() and path.read_text() == wanted else "no"


if __name__ == "__main__":
    print("| |", " | ".join(EVENTS), "|")
    print("|---" * (len(EVENTS) + 1) + "|")
    with tempfile.TemporaryDirectory(prefix="mlpipe-bench-") as root:
        for each, said in table(Path(root)):
            cells = said or [missing(each.programs), *[""] * (len(EVENTS) - 1)]
            print(f"| {each.name} |", " | ".join(cells), "|", flush=True)
