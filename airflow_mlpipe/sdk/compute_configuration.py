"""What a compute target shall be, before it has a name: v1's configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.quantity import gpu_count, processors, size_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.model.compute import ComputeSpec


class ComputeTargetProvisioningConfiguration:
    """What a cluster shall be; made by ``AmlCompute.provisioning_configuration()``."""

    def __init__(self, spec: ComputeSpec) -> None:
        """Wrap the wire form, whose name is still empty."""
        self.spec = spec

    @property
    def vm_size(self) -> str:
        """Azure's name of the machines, as given."""
        return self.spec.vm_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vm_size={self.vm_size!r}, max_nodes={self.spec.max_nodes!r})"


class ComputeTargetAttachConfiguration:
    """What an attached target shall be; made by ``attach_configuration()`` of its class."""

    def __init__(self, spec: ComputeSpec) -> None:
        """Wrap the wire form, whose name is still empty."""
        self.spec = spec

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.type}, max_nodes={self.spec.max_nodes!r})"


def check_nodes(what: str, value: object, least: int) -> None:
    """Refuse what is no number of nodes, or of seconds.

    Raises:
        ParameterError: if it is not a whole number from `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{what}={value!r} is not allowed; give a whole number from {least}")


def check_text(what: str, value: object) -> str | None:
    """Return a text, or None for None.

    Raises:
        ParameterError: if it is neither, or empty, or has a space or a control character in it.
    """
    if value is None or (isinstance(value, str) and value and value.isprintable() and " " not in value):
        return value
    raise ParameterError(f"{what}={value!r} is not allowed; give a text without spaces, or None")


def check_texts(what: str, value: object) -> dict[str, str]:
    """Return a dictionary of texts.

    Raises:
        ParameterError: if it is none.
    """
    found = {} if value is None else value
    if isinstance(found, dict) and all(isinstance(text, str) for pair in found.items() for text in pair):
        return dict(found)
    raise ParameterError(f"{what}={value!r} is not allowed; give a dict of texts")


def resources(given: Mapping[str, Any]) -> Resources:
    """Return what `given` says: of ``cpus``, ``memory``, ``gpus`` and ``shm_size``, None where nothing is said.

    Raises:
        ParameterError: if a value is not allowed.
    """

    def read(name: str, parse: Any) -> Any:
        value = given.get(name)
        return None if value is None else parse(value, name)

    return Resources(
        cpus=read("cpus", processors),
        memory_bytes=read("memory", size_bytes),
        gpus=read("gpus", gpu_count),
        shm_size_bytes=read("shm_size", size_bytes),
    )
