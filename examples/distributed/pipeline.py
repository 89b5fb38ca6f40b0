"""A line through points, by two processes that share the rows; then one process that looks at it.

Run it with ``mlpipe run examples/distributed/pipeline.py``. It needs nothing that is not installed: the ranks talk
through a socket, where a real script would use torch.distributed or mpi4py.
"""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe import (
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    PyTorchConfiguration,
    RunConfiguration,
    Workspace,
)

SOURCE = Path(__file__).parent / "src"

ws = Workspace.from_config()

line = PipelineData("line")
rounds = PipelineParameter("rounds", default_value=200)

two_ranks = RunConfiguration(framework="PyTorch", communicator="Gloo")
two_ranks.pytorch = PyTorchConfiguration("Gloo", process_count=2)

train = PythonScriptStep(
    name="train",
    script_name="train.py",
    source_directory=SOURCE,
    arguments=["--rounds", rounds, "--line", line],
    outputs=[line],
    runconfig=two_ranks,
    hash_paths=["train.py", "group.py"],
)

look = PythonScriptStep(
    name="look",
    script_name="look.py",
    source_directory=SOURCE,
    arguments=[line.as_input("line")],
    inputs=[line.as_input("line")],
    hash_paths=["look.py"],
)

pipeline = Pipeline(ws, steps=[look], name="distributed")
