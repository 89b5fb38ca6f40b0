"""``shell``."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import found
from airflow_mlpipe.errors import ParameterError

if TYPE_CHECKING:
    from airflow_mlpipe.execution.contract import StepJob

INTERACTIVE = ("TERM", "COLORTERM", "DISPLAY", "XAUTHORITY", "SSH_AUTH_SOCK", "EDITOR")
"""What a person at a terminal needs and a step does not get."""


def shell(run: str, name: str, command: Sequence[str], *, only_print: bool) -> int:
    """Open a shell, or run a command, where a step ran; or say where that is."""
    from airflow_mlpipe.sdk.debug import laid_out, lay_out

    step = found(run).step(name)
    if only_print:
        job = lay_out(step)
        OUT.say(_text(job))
        OUT.answer(_view(job))
        return 0
    if OUT.json:
        raise ParameterError("shell --json needs --print: an interactive shell has no JSON answer")
    with laid_out(step) as job:
        OUT.warn(f"step '{step.name}' of run {step.pipeline_run_id}, in a copy that is removed at the end:")
        OUT.warn(f"  {job.cwd}\n  {shlex.join(job.argv)}")
        told = {name: os.environ[name] for name in INTERACTIVE if name in os.environ}
        argv = list(command) or [os.environ.get("SHELL", "/bin/sh")]
        try:
            done = subprocess.run(argv, cwd=job.cwd, env={**told, **job.env}, check=False)
        except OSError as error:
            raise ParameterError(f"command '{argv[0]}' cannot be run: {error.strerror}") from None
    return 0 if done.returncode == 0 else 1


def _view(job: StepJob) -> dict[str, Any]:
    return {
        "directory": str(job.cwd),
        "argv": job.argv,
        "environment": job.env,
        "inputs": {name: port.path or port.value for name, port in job.context.inputs.items()},
        "outputs": {name: str(path) for name, path in job.outputs.items()},
    }


def _text(job: StepJob) -> str:
    # Quoted, so that the lines can be pasted into a shell.
    variables = [
        f"export {name}={shlex.quote(value)}" for name, value in sorted(job.env.items()) if name.isidentifier()
    ]
    return "\n".join([f"cd {shlex.quote(str(job.cwd))}", *variables, shlex.join(job.argv)])
