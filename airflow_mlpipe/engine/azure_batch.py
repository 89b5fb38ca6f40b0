"""Airflow's operator for Azure Batch, with three things that it lacks."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.microsoft.azure.hooks.batch import AzureBatchHook
from airflow.providers.microsoft.azure.operators.batch import AzureBatchOperator
from airflow.sdk.exceptions import AirflowFailException
from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from azure.batch.models import BatchTaskCreateOptions

_WINDOWS = "batch.node.windows"
"""How the names of Batch's agents for Windows begin."""


def quoted_line(start: str, arguments: Sequence[str], agent: str | None) -> str:
    """Return a command line that parts into its arguments unchanged.

    Args:
        start: how it begins, as it is: the program, maybe with arguments of its own.
        arguments: what follows.
        agent: Batch's agent on the pool's machines, e.g. ``batch.node.ubuntu 22.04``; None for machines without a
            named one: those of Cloud Services, which have Windows.
    """
    if not arguments:
        return start
    on_windows = agent is None or agent.startswith(_WINDOWS)
    return f"{start} {subprocess.list2cmdline(arguments) if on_windows else shlex.join(arguments)}"


class _PoolHook(AzureBatchHook):
    """Writes command lines as the machines of one pool read them."""

    def __init__(self, conn_id: str, pool_id: str, arguments: Sequence[str]) -> None:
        super().__init__(conn_id)
        self._pool_id = pool_id
        self._arguments = arguments

    def configure_task(self, task_id: str, command_line: str, *args: Any, **kwargs: Any) -> BatchTaskCreateOptions:
        """Describe a task. The pool is there by now, and says what its machines are."""
        machines = self.connection.get_pool(self._pool_id).virtual_machine_configuration
        agent = None if machines is None else machines.node_agent_sku_id
        return super().configure_task(task_id, quoted_line(command_line, self._arguments, agent), *args, **kwargs)


class AzureBatchJob(AzureBatchOperator):
    """Runs a job of one task; the job ends when this is killed, and no pool is made that is not asked for.

    Airflow's own asks for the end of its job in a way that the library of Azure Batch refuses (azure-batch 15.1: ``No
    value for given attribute``), so that the job would go on.

    Args:
        create_pool: whether the pool is made if it is not there.
        batch_task_arguments: what follows ``batch_task_command_line``; each arrives as one argument, whatever is in it.
    """

    def __init__(self, *, create_pool: bool = True, batch_task_arguments: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.create_pool = create_pool
        self.batch_task_arguments = batch_task_arguments

    @cached_property
    def hook(self) -> AzureBatchHook:
        """What asks Azure Batch."""
        return _PoolHook(self.azure_batch_conn_id, self.batch_pool_id, self.batch_task_arguments)

    def execute(self, context: Context) -> None:
        """Run the job, or begin it.

        Raises:
            AirflowFailException: if there is no such pool, and none is to be made.
        """
        if not self.create_pool:
            try:
                self.hook.connection.get_pool(self.batch_pool_id)
            except ResourceNotFoundError:
                raise AirflowFailException(
                    f"there is no pool '{self.batch_pool_id}' in this account of Azure Batch; create_pool=True makes it"
                ) from None
        super().execute(context)

    def on_kill(self) -> None:
        """End the job."""
        told = {"terminateReason": "cancelled"}
        self.hook.connection.begin_terminate_job(self.batch_job_id, options=told).result()
        self.log.info("Azure Batch job %s is ended", self.batch_job_id)
