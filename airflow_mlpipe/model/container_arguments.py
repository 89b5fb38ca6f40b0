"""Which of ``docker run``'s arguments an environment may give: how much of the machine its steps get, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.quantity import gpu_count, processors, size_bytes

_OPTIONS = {
    "--cpus": "cpus",
    "--memory": "memory_bytes",
    "-m": "memory_bytes",
    "--gpus": "gpus",
    "--shm-size": "shm_size_bytes",
}
_INSTEAD = {
    "--ipc": "give shm_size, which is what it is mostly wanted for",
    "--network": "the compute target says it: DockerCompute.attach_configuration(network_mode=...)",
    "--net": "the compute target says it: DockerCompute.attach_configuration(network_mode=...)",
    "--volume": "read data through inputs and write it to outputs",
    "-v": "read data through inputs and write it to outputs",
    "--mount": "read data through inputs and write it to outputs",
    "--env": "set environment_variables of the environment",
    "-e": "set environment_variables of the environment",
}


def resources_of(environment: str, arguments: Sequence[str], shm_size: str | None = None) -> Resources:
    """Return what v1's ``docker.arguments`` and ``docker.shm_size`` ask for.

    A container is a border: whoever may write a pipeline must not open it. What opens it is said by the compute target,
    which whoever owns the workspace attaches.

    Args:
        environment: name of the environment, for errors.
        arguments: words of ``docker run``: ``--cpus``, ``--memory``, ``-m``, ``--gpus``, ``--shm-size``, each with
            ``=`` or followed by its value.
        shm_size: such as ``2g``, or None.

    Raises:
        NotSupportedError: for any other argument.
        ParameterError: if a value is not right.
    """
    found: dict[str, object] = {}
    # One text for several words was how v1's users wrote them as well.
    words = [word for argument in arguments for word in argument.split()]
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name not in _OPTIONS:
            allowed = ", ".join(sorted(_OPTIONS))
            raise NotSupportedError(
                f"environment '{environment}': docker argument '{name}' is not allowed; allowed are {allowed}; "
                + _INSTEAD.get(name, "what else a container may do is not for a step to say")
            )
        if not equals:
            value = words.pop(0) if words else ""
        found[_OPTIONS[name]] = _value(_OPTIONS[name], value, f"environment '{environment}': {name}")
    if shm_size is not None:
        found["shm_size_bytes"] = size_bytes(shm_size, f"environment '{environment}': shm_size")
    return Resources.model_validate(found)


def _value(field: str, text: str, what: str) -> object:
    if field == "cpus":
        return processors(text, what)
    return gpu_count(text, what) if field == "gpus" else size_bytes(text, what)
