"""A step that runs on Azure Batch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.operator_arguments import ComputeSetting, Joined, TryId, addressed
from airflow_mlpipe.sdk.operator_step import OperatorStep

_OPERATOR = "airflow_mlpipe.engine.azure_batch.AzureBatchJob"
"""Airflow's AzureBatchOperator, which ends its job when it is cancelled."""

_LONGEST_MIN = 180 * 24 * 60
"""Minutes that a task of Azure Batch lasts at most. Airflow's operator would give up after 25."""


class AzureBatchStep(OperatorStep):
    """Runs a program on a pool of Azure Batch: a job of its own for each try, with one task.

    Data among `arguments` becomes its address: the pool's machines read and write it where it lies, so that it has to
    be in datastores that they reach.

    Airflow's operator first waits, in its slot, until all machines of the pool are idle: steps on one pool run one
    after the other.
    """

    def __init__(
        self,
        name: str,
        create_pool: bool = False,
        pool_id: str | None = None,
        delete_batch_job_after_finish: bool = True,
        delete_batch_pool_after_finish: bool = False,
        is_positive_exit_code_failure: bool = True,
        vm_image_urn: str = "urn:MicrosoftWindowsServer:WindowsServer:2012-R2-Datacenter",
        run_task_as_admin: bool = False,
        target_compute_nodes: int = 1,
        vm_size: str = "standard_d1_v2",
        source_directory: str | None = None,
        executable: str | None = None,
        arguments: Sequence[Any] | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        allow_reuse: bool = True,
        compute_target: str | ComputeTarget | None = None,
        version: str | None = None,
        *,
        node_agent_sku_id: str | None = None,
        resource_files: Sequence[Mapping[str, Any]] | None = None,
        polling_period_s: int = 30,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Describe a step; the parameters are v1's.

        Args:
            name: of the step.
            create_pool: whether the pool is made if it is not there; else that is an error.
            pool_id: the pool that the job runs on.
            delete_batch_job_after_finish: whether the job is deleted once its task has ended. The job of a cancelled
                step is ended and stays.
            delete_batch_pool_after_finish: whether the pool is deleted, also one that was there before.
            is_positive_exit_code_failure: True: an exit code other than 0 is a failure. False is not supported.
            vm_image_urn: ``urn:PUBLISHER:OFFER:SKU[:VERSION]`` of the machines' image, for a pool that is made.
            run_task_as_admin: whether the program runs as an administrator.
            target_compute_nodes: how many machines a pool gets that is made.
            vm_size: their size.
            source_directory: not supported: nothing is copied there; see `resource_files`.
            executable: the program, as Batch's command line begins; no shell is started for it. One that is named here
                reads the arguments once more, in its own way.
            arguments: of the program: texts, numbers, data, pipeline parameters, ``Joined(...)``. Each arrives as one
                argument, whatever is in it: the line is quoted as the pool's machines (Linux or Windows) read it.
            inputs: data it reads.
            outputs: data it makes.
            allow_reuse: whether an earlier result for the same inputs may stand in for running.
            compute_target: a :class:`BatchCompute`.
            version: a salt: another one makes old results invalid.
            node_agent_sku_id: Batch's agent for the image, e.g. ``batch.node.ubuntu 22.04``; by default the image is
                the first one that Batch has verified whose SKU begins as the one of `vm_image_urn`, with its agent.
            resource_files: what Batch copies to the machine before, in Batch's own form:
                ``[{"httpUrl": "https://...", "filePath": "job.py"}]``. No secret belongs into the address.
            polling_period_s: how often Batch is asked, in seconds, by a task that has given its slot back.
            deferrable: whether a waiting task gives its slot back, where there is a triggerer.
            **kwargs: more parameters of :class:`OperatorStep`: ``retries``, ``timeout_s``, ``airflow``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        _refuse(name, locals())
        timeout_s = kwargs.get("timeout_s")
        told = {
            "azure_batch_conn_id": ComputeSetting("conn_id"),
            "create_pool": bool(create_pool),
            "batch_pool_id": pool_id,
            "batch_pool_vm_size": vm_size,
            "batch_job_id": TryId(),
            "batch_job_display_name": name,
            "batch_task_id": "step",
            "batch_task_command_line": str(executable),
            "batch_task_arguments": [_argument(each) for each in arguments or ()],
            "target_dedicated_nodes": target_compute_nodes,
            "timeout": _LONGEST_MIN if timeout_s is None else math.ceil(timeout_s / 60) + 1,
            "should_delete_job": bool(delete_batch_job_after_finish),
            "should_delete_pool": bool(delete_batch_pool_after_finish),
            "poll_interval": polling_period_s,
            "deferrable": bool(deferrable),
            **_image(name, vm_image_urn, node_agent_sku_id),
        }
        if run_task_as_admin:
            told["batch_task_user_identity"] = {"autoUser": {"scope": "task", "elevationLevel": "admin"}}
        if resource_files:
            told["batch_task_resource_files"] = [dict(each) for each in resource_files]
        super().__init__(
            name, _OPERATOR, inputs, outputs, told,
            compute_target=compute_target, allow_reuse=allow_reuse, version=version, **kwargs,
        )  # fmt: skip


def _refuse(name: str, given: Mapping[str, Any]) -> None:
    for each, what in (
        ("compute_target", "a BatchCompute"),
        ("pool_id", "the id of the pool to run on"),
        ("executable", "the program to run"),
    ):
        if not given[each]:
            raise PipelineError(f"AzureBatchStep '{name}': {each} is missing; give {what}")
    if given["source_directory"] is not None:
        raise NotSupportedError(
            f"AzureBatchStep '{name}': source_directory is not supported: nothing is copied to Batch; put the files "
            "where the pool's machines reach them and give resource_files=[{'httpUrl': ..., 'filePath': ...}]"
        )
    if not given["is_positive_exit_code_failure"]:
        raise NotSupportedError(
            f"AzureBatchStep '{name}': is_positive_exit_code_failure=False is not supported: Airflow's operator fails "
            "with every exit code but 0; have the program end with 0"
        )
    nodes = given["target_compute_nodes"]
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        raise PipelineError(f"AzureBatchStep '{name}': target_compute_nodes={nodes!r} is not allowed; give 1 or more")


def _image(name: str, urn: str, agent: str | None) -> dict[str, Any]:
    """Return what the operator is told of the image of machines."""
    parts = urn.removeprefix("urn:").split(":") if isinstance(urn, str) else []
    if len(parts) not in (3, 4) or not all(parts):
        raise PipelineError(
            f"AzureBatchStep '{name}': vm_image_urn={urn!r} is not allowed; give 'urn:PUBLISHER:OFFER:SKU', such as "
            "'urn:canonical:0001-com-ubuntu-server-jammy:22_04-lts'"
        )
    publisher, offer, sku, *version = parts
    if agent is not None:
        return {
            "vm_publisher": publisher,
            "vm_offer": offer,
            "vm_sku": sku,
            "vm_version": version[0] if version else "latest",
            "vm_node_agent_sku_id": agent,
        }
    return {
        "use_latest_verified_vm_image_and_sku": True,
        # It compares these with names in lower case.
        "vm_publisher": publisher.lower(),
        "vm_offer": offer.lower(),
        "sku_starts_with": sku,
        # It insists on these and then takes those of the image that it has found.
        "vm_sku": sku,
        "vm_node_agent_sku_id": "of the image",
    }


def _argument(value: Any) -> str | Joined:
    """Return an argument of the program: a text, now or when the step starts."""
    if isinstance(value, (str, int, float, os.PathLike)):
        return str(value)
    return Joined(*map(addressed, value.pieces if isinstance(value, Joined) else (value,)))
