"""A workspace whose runs need no Airflow, and small pipelines for it."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_mlpipe.sdk.workspace import Workspace

WRITE = """
import sys
from pathlib import Path
from airflow_mlpipe import Run

run = Run.get_context()
run.log("size", int(sys.argv[2]))
run.log_row("row", x=1, y=2)
run.tag("made-by", "write")
run.parent.log("parent-size", int(sys.argv[2]))
run.parent.tag("seen", "yes")
Path("outputs/note.txt").write_text("note")
Path(sys.argv[1]).write_text("x" * int(sys.argv[2]))
print("wrote", sys.argv[2])
"""

COUNT = """
import sys
from pathlib import Path

Path(sys.argv[2]).mkdir()
Path(sys.argv[2], "count.txt").write_text(str(len(Path(sys.argv[1]).read_text())))
print("to stderr", file=sys.stderr)
"""

FAIL = """
import sys

print("working")
raise ValueError("no such colour: " + " ".join(sys.argv[1:]))
"""


def inline_workspace(folder: Path, name: str = "tests") -> Workspace:
    """Make a workspace in `folder` that runs pipelines in the process that submits them."""
    workspace = Workspace.create(name, path=folder)
    path = workspace.dir / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine": "airflow_mlpipe.testing:InlineEngine"}))
    return Workspace.from_config(path)


def script(folder: Path, name: str, text: str) -> Path:
    """Write a script into a source directory of its own and return that directory."""
    source = folder / f"src_{name}"
    source.mkdir(exist_ok=True)
    (source / f"{name}.py").write_text(text)
    return source


def two_steps(workspace: Workspace, folder: Path, *, second: str = COUNT, **parameters):
    """write -> count: the size written is a pipeline parameter of 3."""
    from airflow_mlpipe.sdk.data import PipelineData
    from airflow_mlpipe.sdk.parameter import PipelineParameter
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.steps import PythonScriptStep

    text = PipelineData("text", datastore=workspace.get_default_datastore())
    counted = PipelineData("counted", datastore=workspace.get_default_datastore())
    size = PipelineParameter("size", default_value=parameters.get("size", 3))
    write = PythonScriptStep(
        name="write", script_name="write.py", source_directory=script(folder, "write", WRITE), arguments=[text, size],
        outputs=[text],
    )  # fmt: skip
    count = PythonScriptStep(
        name="count", script_name="count.py", source_directory=script(folder, "count", second),
        arguments=[text, counted], inputs=[text], outputs=[counted],
    )  # fmt: skip
    return Pipeline(workspace, steps=[write, count], name="two")


def one_step(workspace: Workspace, folder: Path, text: str, *, name: str = "step", **options):
    """A pipeline of one script without data."""
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.steps import PythonScriptStep

    source = script(folder, name, text)
    step = PythonScriptStep(name=name, script_name=f"{name}.py", source_directory=source, **options)
    return Pipeline(workspace, steps=[step], name=f"one-{name}")
