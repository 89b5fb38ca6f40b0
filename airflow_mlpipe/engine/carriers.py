"""Which carrier carries out the steps of a compute target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.execution.carrier import Carrier
from airflow_mlpipe.execution.here import Here, LocalLauncher
from airflow_mlpipe.model.compute import ComputeSpec

if TYPE_CHECKING:
    from airflow_mlpipe.engine.attempt import Attempt
    from airflow_mlpipe.engine.room import Room


def carrier_of(compute: ComputeSpec | None, room: Room, context: Any) -> Carrier:
    """Return what carries out a step.

    Args:
        compute: the step's compute target, or None for this machine.
        room: the workspace.
        context: Airflow's, of the task that runs the step.

    Raises:
        NotSupportedError: if nothing here runs steps on it.
    """
    if compute is None or compute.kind == "local":
        return Here(LocalLauncher())
    if compute.kind == "docker":
        # Here, not above: a worker that has no step in a container pays neither for Docker's library nor its provider.
        from airflow_mlpipe.engine.container_launcher import ContainerLauncher

        return Here(ContainerLauncher(compute, room))
    if compute.kind == "kubernetes":
        # Here, not above: a step elsewhere needs neither the provider nor its client.
        from airflow_mlpipe.engine.pods.carrier import InPods

        return InPods(compute, room.config.get("settings", {}), context)
    if compute.kind == "ssh":
        # Here, not above: a worker that reaches no other machine needs none of it.
        from airflow_mlpipe.engine.ssh_launcher import SshLauncher

        return Here(SshLauncher(compute))
    if compute.kind == "service":
        raise NotSupportedError(
            f"compute target '{compute.name}' is a {compute.type}, which runs no scripts of its own; use the step that "
            "is made for it"
        )
    raise NotSupportedError(f"compute target '{compute.name}' runs steps by {compute.kind}, which is not installed")


def operator_carrier(compute: ComputeSpec | None, room: Room, attempt: Attempt, token: str | None) -> Carrier:
    """Return what carries out a step that is an operator of Airflow: the task at hand, whatever its compute target.

    Args:
        compute: the target whose settings the operator is given, or None.
        room: the workspace.
        attempt: the try, and the task that makes it.
        token: of the step's lease, or None if it has none.
    """
    # Here, not above: a worker whose steps are no operators needs none of it.
    from airflow_mlpipe.engine.operator_launcher import OperatorLauncher, TaskAtHand

    task = TaskAtHand(context=attempt.context, may_defer=attempt.waits_elsewhere, resumed=attempt.resumed, token=token)
    return Here(OperatorLauncher(task, room.site, compute))
