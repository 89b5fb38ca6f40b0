"""From a step's ordered, typed arguments to the words of a process."""

from __future__ import annotations

import shutil
from pathlib import Path

from airflow_mlpipe.execution.contract import StepContext
from airflow_mlpipe.execution.distribution import start_of_ranks
from airflow_mlpipe.execution.software import Software
from airflow_mlpipe.model.step import Argument, StepSpec


def command(step: StepSpec, context: StepContext, search: str, software: Software) -> list[str]:
    """Return the argument list of the step's process: :func:`words`, or what starts ranks of it.

    Args:
        step: the step.
        context: the paths and values its arguments stand for.
        search: the PATH of its process.
        software: what its process runs on.
    """
    if step.distribution is None:
        return words(step, context, search, software)
    return start_of_ranks(Path(context.events).parent, software)


def words(step: StepSpec, context: StepContext, search: str, software: Software) -> list[str]:
    """Return what a step runs, or each of its ranks.

    A shell line is given to ``bash`` (or ``sh`` where there is none) with every input, output and parameter as a
    positional parameter: their values are never text that the shell parses.

    Args:
        step: the step.
        context: the paths and values its arguments stand for.
        search: the PATH of its process.
        software: what its process runs on.
    """
    if step.operator is not None:
        # Its task runs it; there is no process.
        return [step.operator.path]
    if step.kind == "python":
        return [software.python, step.script or "", *(_text(argument, context) for argument in step.arguments)]
    if not step.shell:
        return [_text(argument, context) for argument in step.arguments]
    line, values = [], []
    for argument in step.arguments:
        if argument.kind == "literal":
            line.append(argument.value)
        else:
            values.append(_text(argument, context))
            line.append(f'"${{{len(values)}}}"')
    # $0 is the name that the shell's own messages begin with.
    return [software.shell or shutil.which("bash", path=search) or "sh", "-c", " ".join(line), "mlpipe", *values]


def _text(argument: Argument, context: StepContext) -> str:
    if argument.kind == "input":
        return context.inputs[argument.value].value
    if argument.kind == "output":
        return context.outputs[argument.value].path
    if argument.kind == "parameter":
        return str(context.parameters[argument.value])
    return argument.value
