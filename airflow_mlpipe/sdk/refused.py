"""v1's names that are not here: importing one works, using it says what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from airflow_mlpipe.errors import NotSupportedError

_PUBLISHED = (
    "run the pipeline from its file: `mlpipe run FILE` or Experiment.submit(pipeline); for Airflow's REST API make it "
    "a DAG: dag = pipeline.to_dag()"
)

_GROUPS = (
    (_PUBLISHED, "PublishedPipeline PipelineEndpoint PipelineDraft"),
    (
        "a schedule is Airflow's: dag = pipeline.to_dag(schedule='0 3 * * *'), see docs/how-to/schedule.md",
        "Schedule ScheduleRecurrence TimeZone",
    ),
    (
        "put what makes the step into a function, and call it in each pipeline",
        "Module ModuleVersion ModuleStep InputPortDef OutputPortDef",
    ),
    (
        "loop over the files of the input in a PythonScriptStep, or share them among the ranks of "
        "PyTorchConfiguration('Gloo', process_count=4), see docs/how-to/distributed.md",
        "ParallelRunStep ParallelRunConfig",
    ),
    (
        "make a PythonScriptStep for each value in a loop, and one that reads their outputs and takes the best",
        "HyperDriveStep HyperDriveStepRun HyperDriveConfig HyperDriveRun RandomParameterSampling "
        "GridParameterSampling BayesianParameterSampling BanditPolicy MedianStoppingPolicy TruncationSelectionPolicy "
        "NoTerminationPolicy PrimaryMetricGoal TrainingOutput choice uniform quniform loguniform normal randint",
    ),
    ("make a PythonScriptStep for each model to compare", "AutoMLStep AutoMLStepRun AutoMLConfig AutoMLRun"),
    (
        "give what it needs to an Estimator: Estimator(folder, entry_script='train.py', pip_packages=['torch'])",
        "SKLearn PyTorch TensorFlow Chainer",
    ),
    ("Azure Data Lake Analytics was shut down in 2024", "AdlaStep"),
    ("put an operator of Airflow's beside the pipeline: Pipeline.to_task_group()", "KustoStep"),
    ("give the line to a CommandStep: CommandStep('Rscript train.R')", "RScriptStep"),
    (
        "give the line to a CommandStep: CommandStep('papermill in.ipynb out.ipynb')",
        "NotebookRunnerStep NotebookRunConfig AzureMLNotebookHandler",
    ),
    (
        "give DatabricksStep(libraries=[{'pypi': {'package': 'xgboost'}}, {'jar': 'dbfs:/x.jar'}])",
        "JarLibrary EggLibrary MavenLibrary PyPiLibrary RCranLibrary",
    ),
    (
        "read tables with Dataset.Tabular.from_sql_query((datastore, query)), which a DataTransferStep takes too",
        "SqlDataReference",
    ),
    (
        "attach the pool of an Airflow connection: SynapseCompute.attach_configuration(conn_id=...); its steps take "
        "PipelineData and datasets, see docs/how-to/operators.md",
        "LinkedService SynapseWorkspaceLinkedServiceConfiguration HDFSOutputDatasetConfig",
    ),
    (
        "models are not served here; Model(workspace, name).download() gives the files",
        "InferenceConfig Webservice AciWebservice AksWebservice",
    ),
)

INSTEAD = {name: advice for advice, names in _GROUPS for name in names.split()}
"""What to use instead of each name."""


class Refused(type):
    """A class that exists in v1 and is not here: whatever is done with it says so."""

    advice: str

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        """Refuse.

        Raises:
            NotSupportedError: always.
        """
        cls._refuse("")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> NoReturn:
            cls._refuse(f".{name}()")

        return refuse

    def _refuse(cls, what: str) -> NoReturn:
        raise NotSupportedError(f"{cls.__name__}{what} is not supported yet; {cls.advice}")


def refused(name: str, advice: str) -> Refused:
    """Return what stands for v1's class `name`; whoever uses it gets `advice`, which says what to use instead."""
    return Refused(name, (), {"advice": advice, "__doc__": f"v1's {name}; not supported."})


def no_publishing(what: str) -> NotSupportedError:
    """Return the error for a call, `what`, that publishes a pipeline."""
    return NotSupportedError(f"{what} is not supported yet; {_PUBLISHED}")
