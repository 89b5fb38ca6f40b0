"""From the command of a distributed step to the process that starts its ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
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

_FOLDER = "ranks"


@dataclass(frozen=True, slots=True)
class Launching:
    """How a step is started.

    Attributes:
        argv: the process's arguments.
        needs: commands that the process starts in turn; they have to be on its PATH, or in the snapshot.
    """

    argv: list[str]
    needs: tuple[str, ...] = ()


def launching(
    step: StepSpec, argv: list[str], values: Mapping[str, JsonValue], work: Path, software: Software
) -> Launching:
    """Return how a step is started whose command is `argv`: as it is, or by what starts ranks of it.

    What starts them is written to the try's folder, which is all of ours that a container sees.

    Args:
        step: the step.
        argv: what each rank runs.
        values: bound values of the pipeline's parameters.
        work: folder of the try.
        software: what the step runs on.

    Raises:
        ParameterError: if the number of ranks is not allowed.
        StorageError: if the folder cannot be written to.
    """
    if step.distribution is None:
        return Launching(argv)
    facts = step.distribution.bound(values, step.name).model_dump(exclude_none=True)
    folder = work / _FOLDER
    plan = {**facts, "argv": argv, "logs": str(work / "code" / "logs")}
    with system_errors("write", folder):
        folder.mkdir()
        program = Path(shutil.copy(ranks.__file__, folder))
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    # Isolated: what lies in the working directory is no module of ours.
    started = [software.python, *ranks.FLAGS, str(program), str(folder / "plan.json")]
    return Launching(started, (argv[0], MPIRUN) if step.distribution.kind == "mpi" else (argv[0],))


def failed_rank(work: Path) -> str | None:
    """Say which rank of a try failed first, and how; None if none did, or the step has no ranks."""
    path = work / _FOLDER / ranks.FAILURE
    return path.read_text("utf-8") if path.is_file() else None


def check_place(step: StepSpec, kind: ComputeKind, values: Mapping[str, JsonValue]) -> None:
    """Refuse ranks on many machines where one is all there is.

    Args:
        step: the step.
        kind: what runs it.
        values: bound values of the pipeline's parameters.

    Raises:
        NotSupportedError: if it is meant for more than one pod.
        ParameterError: if the number of ranks is not allowed.
    """
    if step.distribution is None or kind != "kubernetes":
        return
    machines = step.distribution.bound(values, step.name).machines()
    if machines > 1:
        raise NotSupportedError(
            f"step '{step.name}': {machines} nodes on compute target '{step.compute}' would be {machines} pods, and a "
            "step is one pod; give node_count=1 and the ranks as process_count_per_node, or use a local or docker "
            "target"
        )
