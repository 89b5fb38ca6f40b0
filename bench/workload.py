"""Pipelines to measure: chains of tiny scripts, each in a source directory of its own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import Called, call

SCRIPT = """import os, sys, zlib
*ins, out = sys.argv[1:]
text = {salt!r} + "".join(open(path).read() for path in ins)
with open(out, "w") as f:
    f.write("%08x" % zlib.crc32({content}))
fd = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(fd, b"{name}\\n")
"""

CHAIN = """from airflow_mlpipe import Dataset, Pipeline, PipelineData, PythonScriptStep, Workspace

ws = Workspace.from_config()
store = ws.get_default_datastore()
read = Dataset.File.from_files((store, "data/in.txt")).as_named_input("data").as_mount()
for i in range({length}):
    out = PipelineData(f"out{{i}}", datastore=store)
    folder = f"steps/s{{i}}"
    step = PythonScriptStep("main.py", name=f"s{{i}}", source_directory=folder, arguments=[read, out], outputs=[out])
    read = out.as_input("previous")
pipeline = Pipeline(ws, steps=[step], name="chain")
"""

FAN = """from airflow_mlpipe import Dataset, Pipeline, PipelineData, PythonScriptStep, Workspace

ws = Workspace.from_config()
store = ws.get_default_datastore()
data = Dataset.File.from_files((store, "data/in.txt")).as_named_input("data").as_mount()
steps = []
for i in range({width}):
    out = PipelineData(f"out{{i}}", datastore=store)
    folder = f"steps/s{{i}}"
    step = PythonScriptStep("main.py", name=f"s{{i}}", source_directory=folder, arguments=[data, out], outputs=[out])
    steps.append(step)
pipeline = Pipeline(ws, steps=steps, name="fan")
"""

SLEEPERS = """from airflow_mlpipe import Pipeline, PythonScriptStep, Workspace

ws = Workspace.from_config()
folders = [f"steps/s{{i}}" for i in range({width})]
steps = [PythonScriptStep("main.py", name=folder, source_directory=folder, arguments=[folder]) for folder in folders]
pipeline = Pipeline(ws, steps=steps, name="sleepers-{width}")
"""

SLEEPER = """import time
started = time.time()
time.sleep({seconds})
with open({log!r}, "a") as f:
    f.write(f"{{started}} {{time.time()}}\\n")
"""


@dataclass
class Workload:
    """A folder with a workspace, scripts and `pipeline.py`."""

    folder: Path

    @property
    def log(self) -> Path:
        """Where each script notes that it ran."""
        return self.folder / "ran.log"

    def create(self) -> Workload:
        self.folder.mkdir(parents=True)
        self.mlpipe("init")
        return self.with_data()

    def with_data(self) -> Workload:
        """Write what the first step reads."""
        data = self.folder / ".mlpipe/stores/workspaceblobstore/data"
        data.mkdir(parents=True)
        (data / "in.txt").write_text("hello\n")
        return self

    def chain(self, length: int) -> Workload:
        for i in range(length):
            self.script(i, salt="")
        (self.folder / "pipeline.py").write_text(CHAIN.format(length=length))
        return self

    def fan(self, width: int) -> Workload:
        for i in range(width):
            self.script(i, salt="")
        (self.folder / "pipeline.py").write_text(FAN.format(width=width))
        return self

    def script(self, i: int, *, salt: str, same_bytes: bool = False) -> None:
        """Write the script of step `i`; `same_bytes`: what it writes does not depend on `salt`."""
        path = self.folder / f"steps/s{i}/main.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"text[{len(salt)}:].encode()" if same_bytes else "text.encode()"
        path.write_text(SCRIPT.format(salt=salt, content=content, log=str(self.log), name=f"s{i}"))

    def sleepers(self, width: int, seconds: float, salt: str = "") -> Workload:
        for i in range(width):
            path = self.folder / f"steps/s{i}/main.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SLEEPER.format(seconds=seconds, log=str(self.log)) + salt)
        (self.folder / "pipeline.py").write_text(SLEEPERS.format(width=width))
        return self

    def ran(self) -> list[str]:
        """Return what ran since the last call, a line a script."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    @property
    def env(self) -> dict[str, str]:
        """The environment of commands: nothing of the caller's that could matter, and a user's home of its own."""
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR", "HOME")}
        return env | {"MLPIPE_HOME": str(self.folder / "home")}

    def command(self, *arguments: str) -> list[str]:
        """Return an mlpipe command line."""
        return [str(Path(sys.executable).with_name("mlpipe")), *arguments]

    def call(self, *arguments: str) -> Called:
        """Run an mlpipe command.

        Raises:
            SystemExit: if it fails; its output is shown.
        """
        return call(self.command(*arguments), self.folder, self.env)

    def mlpipe(self, *arguments: str) -> float:
        """Run an mlpipe command; return its wall time in seconds, process start included. Errors: see :meth:`call`."""
        return self.call(*arguments).wall_s
