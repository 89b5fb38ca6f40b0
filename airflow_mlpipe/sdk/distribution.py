"""How many processes a step is, as v1 says it: one class for each way of starting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.sdk.parameter import PipelineParameter

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.run_configuration import RunConfiguration

Count = int | PipelineParameter
"""A number of nodes or processes, which may be a pipeline parameter."""

_BACKENDS = {"nccl": "Nccl", "gloo": "Gloo"}


class MpiConfiguration:
    """Ranks that mpirun starts.

    Attributes:
        process_count_per_node: ranks on each node, from 1.
        node_count: nodes, from 1.
    """

    def __init__(self, process_count_per_node: Count = 1, node_count: Count = 1) -> None:
        """Ask for `node_count` times `process_count_per_node` ranks; one is the default of both.

        Raises:
            ParameterError: if a count is not a whole number from 1.
        """
        self.process_count_per_node = checked_count("process_count_per_node", process_count_per_node)
        self.node_count = checked_count("node_count", node_count)

    def __repr__(self) -> str:
        return f"MpiConfiguration({self.process_count_per_node!r}, node_count={self.node_count!r})"


class PyTorchConfiguration:
    """Ranks that ``torch.distributed`` joins by the variables it reads.

    Attributes:
        communication_backend: ``Nccl`` or ``Gloo``; the script says what it uses, and is told this.
        process_count: ranks on all nodes together; None for one on each node.
        node_count: nodes, from 1.
    """

    def __init__(
        self, communication_backend: str = "Nccl", process_count: int | None = None, node_count: Count = 1
    ) -> None:
        """Ask for `process_count` ranks.

        Raises:
            ParameterError: if a count or the backend is not allowed.
        """
        backend = _BACKENDS.get(str(communication_backend).lower())
        if backend is None:
            raise ParameterError(
                f"communication_backend={communication_backend!r} is not allowed; allowed are 'Nccl' and 'Gloo'"
            )
        self.communication_backend = backend
        self.process_count = None if process_count is None else checked_count("process_count", process_count)
        self.node_count = checked_count("node_count", node_count)

    def __repr__(self) -> str:
        counts = f"process_count={self.process_count!r}, node_count={self.node_count!r}"
        return f"PyTorchConfiguration({self.communication_backend!r}, {counts})"


class TensorflowConfiguration:
    """Tasks that TensorFlow joins by the variable ``TF_CONFIG``.

    Attributes:
        worker_count: workers, from 1.
        parameter_server_count: tasks that are ended when the workers have ended, from 0.
    """

    def __init__(self, worker_count: Count = 1, parameter_server_count: Count = 1) -> None:
        """Ask for workers and parameter servers; as in v1 there is one of each if nothing is said.

        Raises:
            ParameterError: if a count is not allowed.
        """
        self.worker_count = checked_count("worker_count", worker_count)
        self.parameter_server_count = checked_count("parameter_server_count", parameter_server_count, least=0)

    def __repr__(self) -> str:
        return f"TensorflowConfiguration({self.worker_count!r}, {self.parameter_server_count!r})"


DistributedJobConfig = MpiConfiguration | PyTorchConfiguration | TensorflowConfiguration
"""What v1's ``distributed_job_config`` may be."""


def checked_count(name: str, value: object, *, least: int = 1) -> Count:
    """Return a count that is allowed: a whole number from `least`, or a pipeline parameter with such a default.

    Raises:
        ParameterError: if it is not.
    """
    number = value.default_value if isinstance(value, PipelineParameter) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        shown = f"{name}={number!r}"
        if isinstance(value, PipelineParameter):
            shown = f"{name}: the default {number!r} of pipeline parameter '{value.name}'"
        raise ParameterError(f"{shown} is not allowed; give a whole number from {least}")
    return value if isinstance(value, PipelineParameter) else number


def distribute(configuration: RunConfiguration, job: DistributedJobConfig) -> None:
    """Let a run configuration start ranks as `job` says; what v1's ``distributed_job_config`` does.

    Raises:
        ParameterError: if `job` is something else.
    """
    if isinstance(job, MpiConfiguration):
        configuration.communicator, configuration.mpi = "OpenMpi", job
        configuration.node_count = job.node_count
    elif isinstance(job, PyTorchConfiguration):
        configuration.framework, configuration.communicator = "PyTorch", job.communication_backend
        configuration.pytorch, configuration.node_count = job, job.node_count
    elif isinstance(job, TensorflowConfiguration):
        configuration.framework, configuration.communicator = "TensorFlow", "ParameterServer"
        configuration.tensorflow = job
    else:
        raise ParameterError(
            f"distributed_job_config is a {type(job).__name__}; allowed are MpiConfiguration, PyTorchConfiguration and "
            "TensorflowConfiguration"
        )
