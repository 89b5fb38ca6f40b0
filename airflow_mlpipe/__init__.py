"""Azure ML SDK v1 pipelines - workspace, dataset, step, pipeline, run - on your own Apache Airflow.

Every public name is here. Importing this package costs next to nothing: a name's module is imported when the name is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlpipe.errors import MlpipeError
    from airflow_mlpipe.sdk.column_types import DataType
    from airflow_mlpipe.sdk.compute import AmlCompute, ComputeTarget, ComputeTargetException
    from airflow_mlpipe.sdk.conda import CondaDependencies
    from airflow_mlpipe.sdk.consumption import DatasetConsumptionConfig
    from airflow_mlpipe.sdk.data import OutputFileDatasetConfig, PipelineData, PipelineOutputFileDataset
    from airflow_mlpipe.sdk.dataset import Dataset, FileDataset, TabularDataset
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.environment import Environment
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.model import Model
    from airflow_mlpipe.sdk.output_data import PortDataReference
    from airflow_mlpipe.sdk.parameter import DataIntervalEnd, DataIntervalStart, PipelineParameter
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.reference import DataReference
    from airflow_mlpipe.sdk.run import Run
    from airflow_mlpipe.sdk.run_configuration import RunConfiguration
    from airflow_mlpipe.sdk.step_run import StepRun
    from airflow_mlpipe.sdk.steps import CommandStep, PipelineStep, PythonScriptStep, StepSequence
    from airflow_mlpipe.sdk.workspace import Workspace

    __version__: str

__all__ = [
    "AmlCompute",
    "CommandStep",
    "ComputeTarget",
    "ComputeTargetException",
    "CondaDependencies",
    "DataIntervalEnd",
    "DataIntervalStart",
    "DataReference",
    "DataType",
    "Dataset",
    "DatasetConsumptionConfig",
    "Datastore",
    "Environment",
    "Experiment",
    "FileDataset",
    "MlpipeError",
    "Model",
    "OutputFileDatasetConfig",
    "Pipeline",
    "PipelineData",
    "PipelineOutputFileDataset",
    "PipelineParameter",
    "PipelineRun",
    "PipelineStep",
    "PortDataReference",
    "PythonScriptStep",
    "Run",
    "RunConfiguration",
    "StepRun",
    "StepSequence",
    "TabularDataset",
    "Workspace",
]

_MODULES = {
    "AmlCompute": "sdk.compute",
    "CommandStep": "sdk.steps",
    "ComputeTarget": "sdk.compute",
    "ComputeTargetException": "sdk.compute",
    "CondaDependencies": "sdk.conda",
    "DataIntervalEnd": "sdk.parameter",
    "DataIntervalStart": "sdk.parameter",
    "DataReference": "sdk.reference",
    "DataType": "sdk.column_types",
    "Dataset": "sdk.dataset",
    "DatasetConsumptionConfig": "sdk.consumption",
    "Datastore": "sdk.datastore",
    "Environment": "sdk.environment",
    "Experiment": "sdk.experiment",
    "FileDataset": "sdk.dataset",
    "MlpipeError": "errors",
    "Model": "sdk.model",
    "OutputFileDatasetConfig": "sdk.data",
    "Pipeline": "sdk.pipeline",
    "PipelineData": "sdk.data",
    "PipelineOutputFileDataset": "sdk.data",
    "PipelineParameter": "sdk.parameter",
    "PipelineRun": "sdk.pipeline_run",
    "PipelineStep": "sdk.steps",
    "PortDataReference": "sdk.output_data",
    "PythonScriptStep": "sdk.steps",
    "Run": "sdk.run",
    "RunConfiguration": "sdk.run_configuration",
    "StepRun": "sdk.step_run",
    "StepSequence": "sdk.steps",
    "TabularDataset": "sdk.dataset",
    "Workspace": "sdk.workspace",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module 'airflow_mlpipe' has no attribute '{name}'")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"airflow_mlpipe.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("airflow-mlpipe")
    except PackageNotFoundError:
        # A source tree that was never installed.
        return "0+unknown"
