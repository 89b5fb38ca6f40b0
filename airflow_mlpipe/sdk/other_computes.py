"""v1's other kinds of compute, by name: importing them works, using them says what to use."""

from __future__ import annotations

from airflow_mlpipe.sdk.refused import Refused, refused


def _compute(name: str, instead: str) -> Refused:
    return refused(name, f"supported are AmlCompute, KubernetesCompute and DockerCompute; {instead}")


AdlaCompute = _compute("AdlaCompute", "Azure Data Lake Analytics was shut down in 2024")
AksCompute = _compute("AksCompute", "for pipelines attach the cluster: KubernetesCompute.attach_configuration(...)")
ComputeInstance = _compute("ComputeInstance", "a step without compute_target= runs on the worker's machine")
DataFactoryCompute = _compute("DataFactoryCompute", "a DataTransferStep needs no compute_target=")
DsvmCompute = _compute("DsvmCompute", "attach the machine's engine: DockerCompute.attach_configuration(engine_url=...)")
KustoCompute = _compute("KustoCompute", "put an operator of Airflow's beside the pipeline: Pipeline.to_task_group()")
