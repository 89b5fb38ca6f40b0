"""Steps that run on a Spark service: a pool of Azure Synapse, or a cluster of HDInsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.operator_arguments import ComputeSetting, addressed
from airflow_mlpipe.sdk.operator_step import OperatorStep

_IN_SYNAPSE = {
    "args": "arguments",
    "conf": "configuration",
    "py_files": "python_files",
    "num_executors": "executor_count",
}
"""What Synapse calls differently from Livy."""


class _SparkStep(OperatorStep):
    """Has a service run a Spark program; the parameters are those of v1's SynapseSparkStep.

    Data among `arguments` becomes its address: the service reads and writes it where it lies.
    """

    _runs: ClassVar[str]
    """Import path of the operator."""

    def __init__(
        self,
        file: str,
        source_directory: str | None = None,
        compute_target: str | ComputeTarget | None = None,
        driver_memory: str | None = None,
        driver_cores: int | None = None,
        executor_memory: str | None = None,
        executor_cores: int | None = None,
        num_executors: int | None = None,
        name: str | None = None,
        app_name: str | None = None,
        environment: Any = None,
        arguments: Sequence[Any] | None = None,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        conf: Mapping[str, str] | None = None,
        py_files: Sequence[str] | None = None,
        jars: Sequence[str] | None = None,
        files: Sequence[str] | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        *,
        class_name: str | None = None,
        polling_period_s: int = 15,
        **kwargs: Any,
    ) -> None:
        """Describe a step.

        Args:
            file: address of the program that the service reaches, ``abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH``
                or, on HDInsight, also ``wasbs://CONTAINER@ACCOUNT.../PATH``.
            source_directory: not supported: nothing is copied there.
            compute_target: a :class:`SynapseCompute` or :class:`HDInsightCompute`.
            driver_memory: e.g. ``2g``.
            driver_cores: of the driver.
            executor_memory: e.g. ``2g``.
            executor_cores: of each executor.
            num_executors: how many executors.
            name: for people; by default the program's file name.
            app_name: name in the service. By default the step's in Synapse, and none in Livy, which takes no name twice
                at one time.
            environment: accepted as in v1, not used.
            arguments: of the program: texts, numbers, pipeline parameters, data.
            inputs: data it reads.
            outputs: data it makes.
            conf: Spark's settings.
            py_files: addresses of Python files and archives.
            jars: addresses of JARs.
            files: addresses of other files.
            allow_reuse: whether an earlier result for the same inputs may stand in for running.
            version: a salt: another one makes old results invalid.
            class_name: main class, for a JAR.
            polling_period_s: how often the service is asked, in seconds.
            **kwargs: more parameters of :class:`OperatorStep`: ``retries``, ``timeout_s``, ``airflow``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        shown = _checked(type(self).__name__, name, file, source_directory, compute_target)
        program = {
            "name": app_name,
            "file": file,
            "class_name": class_name,
            "args": [addressed(each) for each in arguments or ()],
            "conf": dict(conf or {}),
            "py_files": list(py_files or ()),
            "jars": list(jars or ()),
            "files": list(files or ()),
            "driver_memory": driver_memory,
            "driver_cores": driver_cores,
            "executor_memory": executor_memory,
            "executor_cores": executor_cores,
            "num_executors": num_executors,
        }
        said = {key: value for key, value in program.items() if value not in (None, [], {})}
        super().__init__(
            shown, self._runs, inputs, outputs, self._told(shown, said, polling_period_s),
            compute_target=compute_target, allow_reuse=allow_reuse, version=version, **kwargs,
        )  # fmt: skip

    def _told(self, shown: str, program: dict[str, Any], polling_period_s: int) -> dict[str, Any]:
        """Return what the operator is told of the program, in whose description only what was given stands."""
        raise NotImplementedError


class SynapseSparkStep(_SparkStep):
    """Runs a Spark program on a pool of Azure Synapse.

    Data among `arguments` becomes its address: the pool reads and writes it where it lies.
    """

    _runs = "airflow.providers.microsoft.azure.operators.synapse.AzureSynapseRunSparkBatchOperator"

    def _told(self, shown: str, program: dict[str, Any], polling_period_s: int) -> dict[str, Any]:
        return {
            "azure_synapse_conn_id": ComputeSetting("conn_id"),
            "spark_pool": ComputeSetting("pool_name"),
            "payload": {"name": shown, **{_IN_SYNAPSE.get(key, key): value for key, value in program.items()}},
            "check_interval": polling_period_s,
        }


class HDInsightStep(_SparkStep):
    """Runs a Spark program on a cluster of HDInsight, through its Livy server.

    Data among `arguments` becomes its address: the cluster reads and writes it where it lies.
    """

    _runs = "airflow.providers.apache.livy.operators.livy.LivyOperator"

    def _told(self, shown: str, program: dict[str, Any], polling_period_s: int) -> dict[str, Any]:
        return {"livy_conn_id": ComputeSetting("conn_id"), **program, "polling_interval": polling_period_s}


def _checked(
    kind: str, name: str | None, file: str, source_directory: str | None, compute_target: str | ComputeTarget | None
) -> str:
    """Return what the step is called."""
    shown = name or str(file).rpartition("/")[2] or kind
    if source_directory is not None or "://" not in str(file):
        raise NotSupportedError(
            f"{kind} '{shown}': nothing is copied to the service: put the program where it reaches it and give its "
            "address, such as file='abfss://container@account.dfs.core.windows.net/job.py', without source_directory"
        )
    if compute_target is None:
        raise PipelineError(f"{kind} '{shown}': compute_target is missing")
    return shown
