"""What a container of a step may not have: it would be the machine's, not the step's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from airflow_mlpipe.errors import ParameterError

SOCKET = "docker.sock"

_SYSTEM = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var/lib",
           "/var/run")  # fmt: skip

_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
_CONTEXT = ("privileged", "allowPrivilegeEscalation")


def refuse_in_pod(template: Mapping[str, Any]) -> None:
    """Refuse a pod that reaches its node: privileged, the node's namespaces, its folders or its engine.

    Raises:
        ParameterError: naming the entry.
    """
    for path, value in _entries(template, ()):
        key = path[-1]
        if (
            (key in _HOST_NAMESPACES and value)
            or (key in _CONTEXT and value)
            or (key == "hostPath" and value)
            or (key == "procMount" and value != "Default")
            or (path[-2:] == ("capabilities", "add") and value)
            or (isinstance(value, str) and SOCKET in value)
        ):
            raise ParameterError(
                f"pod_template: {'.'.join(path)} is refused, it would give a step its node: no privileged containers, "
                "capabilities, host namespaces, host paths or engine sockets; datastores that are folders are reached "
                "through workspace_volume="
            )


def refuse_workspace_volume(given: object) -> str | None:
    """Return a volume as it was given, ``pvc:NAME`` or ``host:/PATH``, or None.

    Raises:
        ParameterError: if it is something else, or a folder of the system.
    """
    if given is None:
        return None
    kind, _, place = given.partition(":") if isinstance(given, str) else ("", "", "")
    path = PurePosixPath(place)
    if kind == "pvc" and place and place.isprintable() and not set(place) & set(" /:"):
        return f"pvc:{place}"
    if kind == "host" and path.is_absolute() and ".." not in path.parts:
        if str(path) not in _SYSTEM and SOCKET not in place:
            return f"host:{path}"
        raise ParameterError(f"workspace_volume={given!r} is refused: it is a folder of the node's system")
    raise ParameterError(f"workspace_volume={given!r} is not allowed; give 'pvc:NAME' or 'host:/PATH'")


def _entries(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entries(inner, (*path, str(key)))
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for inner in value:
            # A list's elements are called as the list is; what is in them has its own name.
            yield from ((found if len(found) > len(path) else path, one) for found, one in _entries(inner, path))
