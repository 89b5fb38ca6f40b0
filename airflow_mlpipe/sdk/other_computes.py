"""v1's other kinds of compute, by name: importing them works, using them says what to use."""

from __future__ import annotations

from airflow_mlpipe.sdk.refused import Refused

_SUPPORTED = "supported are AmlCompute, KubernetesCompute and DockerCompute; "


class AdlaCompute(metaclass=Refused):
    """v1's Azure Data Lake Analytics; not supported."""

    advice = f"{_SUPPORTED}Azure Data Lake Analytics was shut down in 2024"


class AksCompute(metaclass=Refused):
    """v1's cluster for web services; not supported."""

    advice = f"{_SUPPORTED}for pipelines attach the cluster: KubernetesCompute.attach_configuration(...)"


class ComputeInstance(metaclass=Refused):
    """v1's development machine; not supported."""

    advice = f"{_SUPPORTED}a step without compute_target= runs on the worker's machine"


class DataFactoryCompute(metaclass=Refused):
    """v1's Azure Data Factory, for data transfers; not supported, and not needed."""

    advice = f"{_SUPPORTED}a DataTransferStep needs no compute_target="


class DsvmCompute(metaclass=Refused):
    """v1's data science virtual machine; not supported."""

    advice = f"{_SUPPORTED}attach the machine's engine: DockerCompute.attach_configuration(engine_url=...)"


class KustoCompute(metaclass=Refused):
    """v1's Azure Data Explorer; not supported."""

    advice = f"{_SUPPORTED}put an operator of Airflow's beside the pipeline: Pipeline.to_task_group()"
