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
from airflow_mlpipe.model.distribution import Distribution
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


def plan_of(work: Path) -> Path:
    """Return the file that says what the ranks of a try are."""
    return work / _FOLDER / _PLAN


def failed_rank(work: Path) -> str | None:
    """Say which rank of a try failed first, and how; None if none did, or the step has no ranks."""
    path = _failure_of(work)
    return path.read_text("utf-8") if path.is_file() else None


def failed_at_s(work: Path) -> float | None:
    """Return when :func:`failed_rank` failed, in seconds since the epoch by the clock of its machine, or None."""
    path = _failure_of(work)
    return path.stat().st_mtime if path.is_file() else None


def _failure_of(work: Path) -> Path:
    return work / _FOLDER / ranks.FAILURE


def check_place(step: StepSpec, kind: ComputeKind, values: Mapping[str, JsonValue]) -> None:
    """Refuse ranks where they cannot be started: many pods of MPI, and a machine that is reached by SSH.

    Args:
        step: the step.
        kind: what runs it.
        values: bound values of the pipeline's parameters.

    Raises:
        NotSupportedError: if it is MPI and meant for more than one pod, or runs by SSH.
        ParameterError: if the number of ranks is not allowed.
    """
    if step.distribution is None:
        return
    if kind == "ssh":
        raise NotSupportedError(
            f"step '{step.name}': ranks are not started on compute target '{step.compute}', which is reached by SSH; "
            "start them in the script, or use a local or docker target, or a pod"
        )
    if kind == "kubernetes":
        check_pods(step.distribution.bound(values, step.name), step.name, step.compute)


def nodes_of(step: StepSpec, values: Mapping[str, JsonValue]) -> int:
    """Return how many pods a step is on a cluster.

    Args:
        step: the step.
        values: bound values of the pipeline's parameters.

    Raises:
        ParameterError: if the number of ranks is not allowed.
    """
    return 1 if step.distribution is None else step.distribution.bound(values, step.name).machines()


def ranks_on(step: StepSpec, values: Mapping[str, JsonValue], node: int) -> list[int]:
    """Return the ranks of a node of a step; none if it has no ranks. Errors are those of :func:`nodes_of`."""
    if step.distribution is None:
        return []
    of = step.distribution.bound(values, step.name)
    if of.workers is None:
        each = int(of.processes_per_node)
        return list(range(node * each, (node + 1) * each))
    tasks = (node, node < int(of.workers)), (int(of.workers) + node, node < int(of.parameter_servers or 0))
    return [rank for rank, there in tasks if there]


def check_pods(ranks: Distribution, step: str, compute: str | None) -> None:
    """Refuse ranks that cannot be started in several pods.

    Args:
        ranks: without parameters.
        step: name of the step.
        compute: name of its compute target.

    Raises:
        NotSupportedError: for ranks of MPI on more than one node.
    """
    if ranks.kind == "mpi" and ranks.machines() > 1:
        raise NotSupportedError(
            f"step '{step}': node_count={ranks.machines()} on compute target '{compute}' would be as many pods, and "
            "mpirun starts nothing in other pods; give node_count=1 and the ranks as process_count_per_node, use "
            "PyTorchConfiguration, or a local or docker target"
        )
