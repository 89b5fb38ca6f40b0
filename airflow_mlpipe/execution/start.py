"""Starting a job's process, and saying why the system refuses to."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlpipe.errors import MlpipeError, PipelineError, StorageError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.processes import dying_with_parent

MAX_WORD_BYTES = 131_072
"""What Linux takes of one argument or variable, its closing zero byte included (MAX_ARG_STRLEN: 32 pages of 4 KiB)."""

SHOWN = 20
"""How many characters of an argument tell which one is meant."""


def start(job: StepJob) -> subprocess.Popen[bytes]:
    """Start the job's process; it dies with the calling thread.

    Raises:
        OSError: if the system refuses; :func:`refusals` makes an error of ours of it.
    """
    argv, before_exec = dying_with_parent(job.argv)
    with job.stdout.open("ab") as stdout, job.stderr.open("ab") as stderr:
        return subprocess.Popen(
            argv,
            cwd=job.cwd,
            env=job.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=before_exec,
        )


@contextmanager
def refusals(job: StepJob) -> Iterator[None]:
    """Turn an OSError of the body, which starts the job, into an error that names step, path and the system's reason.

    Raises:
        PipelineError: if its command line is longer than the system allows.
        StorageError: for every other OSError.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(job, error) from error


def _refusal(job: StepJob, error: OSError) -> MlpipeError:
    if error.errno == errno.E2BIG:
        return PipelineError(
            f"step '{job.step.name}' cannot be started: {_too_long(job)}; write long values to a file and pass its path"
        )
    path = os.fspath(job.cwd if error.filename is None else error.filename)
    code = errno.errorcode.get(error.errno or 0, "no code")
    return StorageError(f"step '{job.step.name}' cannot be started: '{path}': {error.strerror or error} ({code})")


def _too_long(job: StepJob) -> str:
    """Say what of a command line is over which limit."""
    words = [(f"argument {word[:SHOWN]!r}...", word) for word in job.argv]
    words += [(f"variable {name}", f"{name}={value}") for name, value in job.env.items()]
    # As the kernel counts: each with its closing zero byte.
    sizes = [(len(os.fsencode(word)) + 1, what) for what, word in words]
    longest, what = max(sizes)
    if longest > MAX_WORD_BYTES:
        return f"its {what} has {longest - 1:,} bytes, the system allows {MAX_WORD_BYTES - 1:,} in one"
    allowed = os.sysconf("SC_ARG_MAX")
    return (
        f"its {len(words):,} arguments and variables have {sum(size for size, _ in sizes):,} bytes, the "
        f"system allows {allowed:,} in all"
    )
