"""Azure ML SDK v1 pipelines - workspace, dataset, step, pipeline, run - on your own Apache Airflow.

Every public name is here. Importing this package costs next to nothing: a name's module is imported when the name is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlpipe.errors import MlpipeError
    from airflow_mlpipe.sdk.aml_compute import AmlCompute
    from airflow_mlpipe.sdk.authentication import (
        AzureCliAuthentication,
        InteractiveLoginAuthentication,
        MsiAuthentication,
        ServicePrincipalAuthentication,
    )
    from airflow_mlpipe.sdk.azure_batch_step import AzureBatchStep
    from airflow_mlpipe.sdk.column_types import DataType
    from airflow_mlpipe.sdk.compute import ComputeTarget, ComputeTargetException
    from airflow_mlpipe.sdk.conda import CondaDependencies
    from airflow_mlpipe.sdk.consumption import DatasetConsumptionConfig
    from airflow_mlpipe.sdk.data import OutputFileDatasetConfig, PipelineData, PipelineOutputFileDataset
    from airflow_mlpipe.sdk.data_path import DataPath, DataPathComputeBinding
    from airflow_mlpipe.sdk.data_transfer_step import DataTransferStep
    from airflow_mlpipe.sdk.databricks_step import DatabricksStep
    from airflow_mlpipe.sdk.dataset import Dataset
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.default_images import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE
    from airflow_mlpipe.sdk.distribution import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
    from airflow_mlpipe.sdk.docker_compute import DockerCompute
    from airflow_mlpipe.sdk.environment import Environment
    from airflow_mlpipe.sdk.environment_sections import (
        ContainerRegistry,
        DockerConfiguration,
        DockerSection,
        PythonSection,
    )
    from airflow_mlpipe.sdk.estimator import Estimator, EstimatorStep
    from airflow_mlpipe.sdk.exceptions import (
        ActivityFailedException,
        AzureMLException,
        ExperimentExecutionException,
        ModelNotFoundException,
        RunEnvironmentException,
        ServiceException,
        TrainingException,
        UserErrorException,
        WebserviceException,
        WorkspaceException,
    )
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.file_dataset import FileDataset
    from airflow_mlpipe.sdk.kubernetes_compute import KubernetesCompute
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.sdk.mpi_step import MpiStep
    from airflow_mlpipe.sdk.operator_arguments import Joined, SourceFile, Url
    from airflow_mlpipe.sdk.operator_step import OperatorStep
    from airflow_mlpipe.sdk.other_computes import (
        AdlaCompute,
        AksCompute,
        ComputeInstance,
        DataFactoryCompute,
        DsvmCompute,
        KustoCompute,
    )
    from airflow_mlpipe.sdk.output_data import PortDataReference
    from airflow_mlpipe.sdk.parameter import DataIntervalEnd, DataIntervalStart, PipelineParameter
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.reading_options import PromoteHeadersBehavior
    from airflow_mlpipe.sdk.reference import DataReference
    from airflow_mlpipe.sdk.remote_compute import RemoteCompute
    from airflow_mlpipe.sdk.resource_configuration import (
        AmlComputeConfiguration,
        KubernetesComputeConfiguration,
        ResourceConfiguration,
    )
    from airflow_mlpipe.sdk.run import Run
    from airflow_mlpipe.sdk.run_configuration import RunConfiguration
    from airflow_mlpipe.sdk.run_details import RunDetails
    from airflow_mlpipe.sdk.script_run import ScriptRun
    from airflow_mlpipe.sdk.script_run_config import ScriptRunConfig
    from airflow_mlpipe.sdk.service_computes import BatchCompute, DatabricksCompute, HDInsightCompute, SynapseCompute
    from airflow_mlpipe.sdk.spark_steps import HDInsightStep, SynapseSparkStep
    from airflow_mlpipe.sdk.step_run import StepRun
    from airflow_mlpipe.sdk.steps import CommandStep, PipelineStep, PythonScriptStep, StepSequence
    from airflow_mlpipe.sdk.table_output import OutputTabularDatasetConfig, PipelineOutputTabularDataset
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset
    from airflow_mlpipe.sdk.versions import DatasetChangedWarning
    from airflow_mlpipe.sdk.workspace import Workspace

    VERSION: str
    __version__: str

__all__ = [
    "ActivityFailedException",
    "AdlaCompute",
    "AksCompute",
    "AmlCompute",
    "AmlComputeConfiguration",
    "AzureBatchStep",
    "AzureCliAuthentication",
    "AzureMLException",
    "BatchCompute",
    "CommandStep",
    "ComputeInstance",
    "ComputeTarget",
    "ComputeTargetException",
    "CondaDependencies",
    "ContainerRegistry",
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "DataFactoryCompute",
    "DataIntervalEnd",
    "DataIntervalStart",
    "DataPath",
    "DataPathComputeBinding",
    "DataReference",
    "DataTransferStep",
    "DataType",
    "DatabricksCompute",
    "DatabricksStep",
    "Dataset",
    "DatasetChangedWarning",
    "DatasetConsumptionConfig",
    "Datastore",
    "DockerCompute",
    "DockerConfiguration",
    "DockerSection",
    "DsvmCompute",
    "Environment",
    "Estimator",
    "EstimatorStep",
    "Experiment",
    "ExperimentExecutionException",
    "FileDataset",
    "HDInsightCompute",
    "HDInsightStep",
    "InteractiveLoginAuthentication",
    "Joined",
    "KubernetesCompute",
    "KubernetesComputeConfiguration",
    "KustoCompute",
    "MlpipeError",
    "Model",
    "ModelNotFoundException",
    "MpiConfiguration",
    "MpiStep",
    "MsiAuthentication",
    "OperatorStep",
    "OutputFileDatasetConfig",
    "OutputTabularDatasetConfig",
    "Pipeline",
    "PipelineData",
    "PipelineOutputFileDataset",
    "PipelineOutputTabularDataset",
    "PipelineParameter",
    "PipelineRun",
    "PipelineStep",
    "PortDataReference",
    "PromoteHeadersBehavior",
    "PyTorchConfiguration",
    "PythonScriptStep",
    "PythonSection",
    "RemoteCompute",
    "ResourceConfiguration",
    "Run",
    "RunConfiguration",
    "RunDetails",
    "RunEnvironmentException",
    "ScriptRun",
    "ScriptRunConfig",
    "ServiceException",
    "ServicePrincipalAuthentication",
    "SourceFile",
    "StepRun",
    "StepSequence",
    "SynapseCompute",
    "SynapseSparkStep",
    "TabularDataset",
    "TensorflowConfiguration",
    "TrainingException",
    "Url",
    "UserErrorException",
    "WebserviceException",
    "Workspace",
    "WorkspaceException",
]

_MODULES = {
    "ActivityFailedException": "sdk.exceptions",
    "AdlaCompute": "sdk.other_computes",
    "AksCompute": "sdk.other_computes",
    "AmlCompute": "sdk.aml_compute",
    "AmlComputeConfiguration": "sdk.resource_configuration",
    "AzureBatchStep": "sdk.azure_batch_step",
    "AzureCliAuthentication": "sdk.authentication",
    "AzureMLException": "sdk.exceptions",
    "BatchCompute": "sdk.service_computes",
    "CommandStep": "sdk.steps",
    "ComputeInstance": "sdk.other_computes",
    "ComputeTarget": "sdk.compute",
    "ComputeTargetException": "sdk.compute",
    "CondaDependencies": "sdk.conda",
    "ContainerRegistry": "sdk.environment_sections",
    "DEFAULT_CPU_IMAGE": "sdk.default_images",
    "DEFAULT_GPU_IMAGE": "sdk.default_images",
    "DataFactoryCompute": "sdk.other_computes",
    "DataIntervalEnd": "sdk.parameter",
    "DataIntervalStart": "sdk.parameter",
    "DataPath": "sdk.data_path",
    "DataPathComputeBinding": "sdk.data_path",
    "DataReference": "sdk.reference",
    "DataTransferStep": "sdk.data_transfer_step",
    "DataType": "sdk.column_types",
    "DatabricksCompute": "sdk.service_computes",
    "DatabricksStep": "sdk.databricks_step",
    "Dataset": "sdk.dataset",
    "DatasetChangedWarning": "sdk.versions",
    "DatasetConsumptionConfig": "sdk.consumption",
    "Datastore": "sdk.datastore",
    "DockerCompute": "sdk.docker_compute",
    "DockerConfiguration": "sdk.environment_sections",
    "DockerSection": "sdk.environment_sections",
    "DsvmCompute": "sdk.other_computes",
    "Environment": "sdk.environment",
    "Estimator": "sdk.estimator",
    "EstimatorStep": "sdk.estimator",
    "Experiment": "sdk.experiment",
    "ExperimentExecutionException": "sdk.exceptions",
    "FileDataset": "sdk.file_dataset",
    "HDInsightCompute": "sdk.service_computes",
    "HDInsightStep": "sdk.spark_steps",
    "InteractiveLoginAuthentication": "sdk.authentication",
    "Joined": "sdk.operator_arguments",
    "KubernetesCompute": "sdk.kubernetes_compute",
    "KubernetesComputeConfiguration": "sdk.resource_configuration",
    "KustoCompute": "sdk.other_computes",
    "MlpipeError": "errors",
    "Model": "sdk.model",
    "ModelNotFoundException": "sdk.exceptions",
    "MpiConfiguration": "sdk.distribution",
    "MpiStep": "sdk.mpi_step",
    "MsiAuthentication": "sdk.authentication",
    "OperatorStep": "sdk.operator_step",
    "OutputFileDatasetConfig": "sdk.data",
    "OutputTabularDatasetConfig": "sdk.table_output",
    "Pipeline": "sdk.pipeline",
    "PipelineData": "sdk.data",
    "PipelineOutputFileDataset": "sdk.data",
    "PipelineOutputTabularDataset": "sdk.table_output",
    "PipelineParameter": "sdk.parameter",
    "PipelineRun": "sdk.pipeline_run",
    "PipelineStep": "sdk.steps",
    "PortDataReference": "sdk.output_data",
    "PromoteHeadersBehavior": "sdk.reading_options",
    "PyTorchConfiguration": "sdk.distribution",
    "PythonScriptStep": "sdk.steps",
    "PythonSection": "sdk.environment_sections",
    "RemoteCompute": "sdk.remote_compute",
    "ResourceConfiguration": "sdk.resource_configuration",
    "Run": "sdk.run",
    "RunConfiguration": "sdk.run_configuration",
    "RunDetails": "sdk.run_details",
    "RunEnvironmentException": "sdk.exceptions",
    "ScriptRun": "sdk.script_run",
    "ScriptRunConfig": "sdk.script_run_config",
    "ServiceException": "sdk.exceptions",
    "ServicePrincipalAuthentication": "sdk.authentication",
    "SourceFile": "sdk.operator_arguments",
    "StepRun": "sdk.step_run",
    "StepSequence": "sdk.steps",
    "SynapseCompute": "sdk.service_computes",
    "SynapseSparkStep": "sdk.spark_steps",
    "TabularDataset": "sdk.tabular_dataset",
    "TensorflowConfiguration": "sdk.distribution",
    "TrainingException": "sdk.exceptions",
    "Url": "sdk.operator_arguments",
    "UserErrorException": "sdk.exceptions",
    "WebserviceException": "sdk.exceptions",
    "WorkspaceException": "sdk.exceptions",
    "Workspace": "sdk.workspace",
    # v1's name for what a script has outside of a run; scripts compare with it.
    "_OfflineRun": "sdk.offline_run",
}


def __getattr__(name: str) -> Any:
    if name in ("__version__", "VERSION"):
        return _version()
    if name.startswith("__"):
        raise AttributeError(f"module 'airflow_mlpipe' has no attribute '{name}'")
    if name not in _MODULES:
        return _refused(name)
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"airflow_mlpipe.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refused(name: str) -> Any:
    """Return what stands for a name of v1's that is not here: it can be imported; using it says what to use."""
    from airflow_mlpipe.sdk.refused import INSTEAD, refused

    if name not in INSTEAD:
        raise AttributeError(f"module 'airflow_mlpipe' has no attribute '{name}'")
    value = globals()[name] = refused(name, INSTEAD[name])
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("airflow-mlpipe")
    except PackageNotFoundError:
        # A source tree that was never installed.
        return "0+unknown"
