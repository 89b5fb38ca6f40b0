"""What v1's scripts gave ``docker run`` for a step: limits are understood, all else is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.quantity import gpu_count, processors, size_bytes

_LIMITS: dict[str, tuple[str, Any]] = {
    "--cpus": ("cpus", processors),
    "--memory": ("memory_bytes", size_bytes),
    "-m": ("memory_bytes", size_bytes),
    "--gpus": ("gpus", gpu_count),
    "--shm-size": ("shm_size_bytes", size_bytes),
}

_MACHINE = frozenset(
    {
        "--privileged",
        "-v",
        "--volume",
        "--volumes-from",
        "--mount",
        "--device",
        "--device-cgroup-rule",
        "--cap-add",
        "--security-opt",
        "--pid",
        "--ipc",
        "--uts",
        "--userns",
        "--cgroupns",
        "--network",
        "--net",
        "--cgroup-parent",
        "--group-add",
        "--runtime",
    }
)
"""Arguments that reach out of the container."""

_INSTEAD = {
    "--ipc": "; data loaders share memory through shm_size",
    "-v": "; data comes through inputs= and outputs=",
    "--volume": "; data comes through inputs= and outputs=",
    "--mount": "; data comes through inputs= and outputs=",
    "--network": "; a target's network is set when it is attached",
    "--net": "; a target's network is set when it is attached",
    "-e": "; use environment_variables",
    "--env": "; use environment_variables",
}


def resources_of_arguments(arguments: Sequence[str]) -> Resources:
    """Return the limits among arguments of ``docker run``.

    Args:
        arguments: as in v1's ``docker.arguments``: ``["--cpus=2", "--memory", "8g", "--gpus", "all"]``.

    Raises:
        ParameterError: for an argument that would give the step its machine, or that is not understood.
    """
    found: dict[str, Any] = {}
    for name, value in _options(arguments):
        if name not in _LIMITS:
            raise _refused(name)
        field, parse = _LIMITS[name]
        found[field] = parse(value, f"docker argument {name}")
    return Resources.model_validate(found)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    words = iter([word for argument in arguments for word in argument.split()])
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("-v") and name not in ("-v", "--volume"):
            # The short option, joined to its value.
            name = "-v"
        # All limits have a value; of what is refused it does not matter.
        yield name, value if equals else next(words, None) if name in _LIMITS else None


def _refused(name: str) -> ParameterError:
    allowed = ", ".join(_LIMITS)
    why = "is refused, it would give a step its machine" if name in _MACHINE else "is not supported"
    return ParameterError(f"docker argument '{name}' {why}{_INSTEAD.get(name, '')}; allowed are {allowed}")
