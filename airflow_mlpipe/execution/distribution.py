"""What lies in the folder of a try of a distributed step, and starts its ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.execution import ranks
from airflow_mlpipe.execution.software import Software
from airflow_mlpipe.model.compute import ComputeKind
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.atomic import system_errors

MPIRUN = "mpirun"
"""What starts the ranks of an MPI step; it has to be on the PATH of the step."""

_FOLDER, _PROGRAM, _PLAN = "ranks", "ranks.py", "plan.json"


def start_of_ranks(work: Path, software: Software) -> list[str]:
    """Return the command that starts the ranks of a step, once :func:`lay_ranks` was called.

    Args:
        work: folder of the try, as the step's process finds it.
        software: what the step runs on.
    """
    folder = work / _FOLDER
    return [software.python, *ranks.FLAGS, str(folder / _PROGRAM), str(folder / _PLAN)]


def lay_ranks(step: StepSpec, argv: list[str], values: Mapping[str, JsonValue], work: Path) -> tuple[str, ...]:
    """Write what starts the ranks of a step to the try's folder, which is all of ours that a container sees.

    Args:
        step: the step; of one that is one process nothing is written.
        argv: what each rank runs.
        values: bound values of the pipeline's parameters.
        work: folder of the try.

    Returns:
        the commands that are started in turn; they have to be on the step's PATH, or in the snapshot.

    Raises:
        ParameterError: if the number of ranks is not allowed.
        StorageError: if the folder cannot be written to.
    """
    if step.distribution is None:
        return ()
    facts = step.distribution.bound(values, step.name).model_dump(exclude_none=True)
    plan = {**facts, "argv": argv, "logs": str(work / "code" / "logs")}
    folder = work / _FOLDER
    with system_errors("write", folder):
        folder.mkdir()
        shutil.copy(ranks.__file__, folder / _PROGRAM)
        (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
    return (argv[0], MPIRUN) if step.distribution.kind == "mpi" else (argv[0],)


def failed_rank(work: Path) -> str | None:
    """Say which rank of a try failed first, and how; None if none did, or the step has no ranks."""
    path = work / _FOLDER / ranks.FAILURE
    return path.read_text("utf-8") if path.is_file() else None


def check_place(step: StepSpec, kind: ComputeKind, values: Mapping[str, JsonValue]) -> None:
    """Refuse ranks on many machines where one is all there is, and on a machine that is reached by SSH.

    Args:
        step: the step.
        kind: what runs it.
        values: bound values of the pipeline's parameters.

    Raises:
        NotSupportedError: if it is meant for more than one pod, or runs by SSH.
        ParameterError: if the number of ranks is not allowed.
    """
    if step.distribution is None:
        return
    if kind == "ssh":
        raise NotSupportedError(
            f"step '{step.name}': ranks are not started on compute target '{step.compute}', which is reached by SSH; "
            "start them in the script, or use a local or docker target, or a pod"
        )
    if kind != "kubernetes":
        return
    machines = step.distribution.bound(values, step.name).machines()
    if machines > 1:
        raise NotSupportedError(
            f"step '{step.name}': {machines} nodes on compute target '{step.compute}' would be {machines} pods, and a "
            "step is one pod; give node_count=1 and the ranks as process_count_per_node, or use a local or docker "
            "target"
        )
