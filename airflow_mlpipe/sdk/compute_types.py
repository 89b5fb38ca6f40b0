"""Which class a registered compute target is an object of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.sdk.aml_compute import AmlCompute
from airflow_mlpipe.sdk.docker_compute import DockerCompute
from airflow_mlpipe.sdk.kubernetes_compute import KubernetesCompute
from airflow_mlpipe.sdk.remote_compute import RemoteCompute
from airflow_mlpipe.sdk.service_computes import BatchCompute, DatabricksCompute, HDInsightCompute, SynapseCompute

if TYPE_CHECKING:
    from airflow_mlpipe.model.compute import ComputeSpec
    from airflow_mlpipe.sdk.compute import ComputeTarget

_ATTACHED: dict[str, type[ComputeTarget]] = {
    "docker": DockerCompute,
    "kubernetes": KubernetesCompute,
    "ssh": RemoteCompute,
}
_SERVICES: dict[str, type[ComputeTarget]] = {
    "Batch": BatchCompute,
    "Databricks": DatabricksCompute,
    "SynapseSpark": SynapseCompute,
    "HDInsight": HDInsightCompute,
}


def class_of(spec: ComputeSpec) -> type[ComputeTarget]:
    """Return the class of a target.

    Raises:
        NotSupportedError: if this version does not know its type.
    """
    if spec.type == "AmlCompute":
        return AmlCompute
    if spec.kind == "service" and spec.type in _SERVICES:
        return _SERVICES[spec.type]
    if spec.kind not in _ATTACHED:
        raise NotSupportedError(
            f"compute target '{spec.name}' is a {spec.type}; this version knows AmlCompute, DockerCompute, "
            f"KubernetesCompute, RemoteCompute and {', '.join(_SERVICES)}"
        )
    return _ATTACHED[spec.kind]
