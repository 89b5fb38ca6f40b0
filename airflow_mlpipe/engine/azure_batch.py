"""Airflow's operator for Azure Batch, with two things that it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.microsoft.azure.operators.batch import AzureBatchOperator
from airflow.sdk.exceptions import AirflowFailException
from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from airflow.sdk import Context


class AzureBatchJob(AzureBatchOperator):
    """Runs a job of one task; the job ends when this is killed, and no pool is made that is not asked for.

    Airflow's own asks for the end of its job in a way that the library of Azure Batch refuses (azure-batch 15.1: ``No
    value for given attribute``), so that the job would go on.

    Args:
        create_pool: whether the pool is made if it is not there.
    """

    def __init__(self, *, create_pool: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.create_pool = create_pool

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
