"""The end of a step's container when the process that follows it is killed outright.

Run as ``python -m airflow_mlpipe.engine.container_watch``. Reads ``{"url": ..., "labels": {...}}`` from its standard
input, then waits: for a second line, and all is well; or for the end of the input without one, and the containers that
carry the labels are removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress

_ROUNDS = 8
_PAUSE_S = 0.25


@contextmanager
def watched(url: str, labels: Mapping[str, str]) -> Iterator[None]:
    """Have the containers with `labels` removed if this process dies within the block, or is frozen and then killed.

    Args:
        url: of their Docker engine.
        labels: all of them, so that no other try's container carries them.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        # Through a shell that leaves at once: whoever ends this process with all its descendants does not end it.
        subprocess.run(
            ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh", sys.executable, "-m", __name__],
            stdin=ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
    except BaseException:
        os.close(theirs)
        raise
    finally:
        os.close(ours)
    with os.fdopen(theirs, "wb", buffering=0) as line:
        line.write(json.dumps({"url": url, "labels": dict(labels)}).encode() + b"\n")
        yield
        # Only where the block has come to its end: an error leaves it to the watcher to look once more.
        with suppress(BrokenPipeError):
            line.write(b"done\n")


def main() -> None:
    """Wait for the end of whoever started this process, and act on it."""
    task = json.loads(sys.stdin.readline() or "null")
    if task is None or sys.stdin.readline():
        return
    # Not above: nearly always there is nothing to do.
    from airflow_mlpipe.engine.docker_engine import DockerEngine
    from airflow_mlpipe.errors import MlpipeError

    # More than once: what the dead process asked for last may still be under way.
    for _ in range(_ROUNDS):
        with suppress(MlpipeError), closing(DockerEngine.at(task["url"])) as engine:
            for container in engine.labelled(task["labels"]):
                engine.remove(container["Id"])
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
