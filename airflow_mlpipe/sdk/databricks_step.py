"""A step that runs on Databricks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.sdk.binding import Consumed, OutputView, Produced
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.operator_arguments import ComputeSetting, Url, addressed
from airflow_mlpipe.sdk.operator_step import OperatorStep

_OPERATOR = "airflow.providers.databricks.operators.databricks.DatabricksSubmitRunOperator"
_LIBRARIES = ("maven_libraries", "pypi_libraries", "egg_libraries", "jar_libraries", "rcran_libraries")


class DatabricksStep(OperatorStep):
    """Runs a notebook, a Python script or a JAR on a cluster of Databricks.

    The program is told the addresses of its inputs and outputs: a notebook by parameters of their names, others by
    ``--NAME ADDRESS``. They have to lie in datastores that the cluster reaches.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        existing_cluster_id: str | None = None,
        spark_version: str | None = None,
        node_type: str | None = None,
        instance_pool_id: str | None = None,
        num_workers: int | None = None,
        min_workers: int | None = None,
        max_workers: int | None = None,
        spark_env_variables: Mapping[str, str] | None = None,
        spark_conf: Mapping[str, str] | None = None,
        init_scripts: Sequence[str] | None = None,
        cluster_log_dbfs_path: str | None = None,
        notebook_path: str | None = None,
        notebook_params: Mapping[str, Any] | None = None,
        python_script_path: str | None = None,
        python_script_params: Sequence[Any] | None = None,
        main_class_name: str | None = None,
        jar_params: Sequence[Any] | None = None,
        python_script_name: str | None = None,
        source_directory: str | None = None,
        hash_paths: Sequence[str] | None = None,
        run_name: str | None = None,
        timeout_seconds: int | None = None,
        runconfig: Any = None,
        maven_libraries: Any = None,
        pypi_libraries: Any = None,
        egg_libraries: Any = None,
        jar_libraries: Any = None,
        rcran_libraries: Any = None,
        compute_target: str | ComputeTarget | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        permit_cluster_restart: bool | None = None,
        *,
        libraries: Sequence[Mapping[str, Any]] | None = None,
        polling_period_s: int = 10,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Describe a step; the parameters are v1's.

        Args:
            name: of the step.
            inputs: data it reads.
            outputs: data it makes.
            existing_cluster_id: a cluster that is there; else one is made for the run, of what follows.
            spark_version: Databricks' name of the runtime, e.g. ``15.4.x-scala2.12``.
            node_type: Databricks' name of the machines.
            instance_pool_id: pool that the machines come from, instead of `node_type`.
            num_workers: how many workers.
            min_workers: with `max_workers`, between how many they may be.
            max_workers: see `min_workers`.
            spark_env_variables: environment variables of the cluster.
            spark_conf: Spark's settings of the cluster.
            init_scripts: ``dbfs:/`` or workspace paths of scripts that the cluster's machines run first.
            cluster_log_dbfs_path: where the cluster's logs go.
            notebook_path: path of a notebook in the Databricks workspace.
            notebook_params: parameters of the notebook; data and pipeline parameters are allowed.
            python_script_path: path of a Python script that the cluster reaches.
            python_script_params: its arguments, likewise.
            main_class_name: class of a JAR, one of `libraries`.
            jar_params: its arguments, likewise.
            python_script_name: not supported; give `python_script_path`.
            source_directory: not supported.
            hash_paths: not supported.
            run_name: name of the run in Databricks; by default the step's.
            timeout_seconds: after which Databricks ends the run.
            runconfig: accepted as in v1, not used.
            maven_libraries: not supported; give `libraries`. So are the other four.
            pypi_libraries: not supported.
            egg_libraries: not supported.
            jar_libraries: not supported.
            rcran_libraries: not supported.
            compute_target: a :class:`DatabricksCompute`.
            allow_reuse: whether an earlier result for the same inputs may stand in for running.
            version: a salt: another one makes old results invalid.
            permit_cluster_restart: accepted as in v1, not used.
            libraries: in Databricks' own form: ``[{"pypi": {"package": "xgboost"}}, {"jar": "dbfs:/x.jar"}]``.
            polling_period_s: how often Databricks is asked, in seconds.
            deferrable: whether a waiting task gives its slot back, where there is a triggerer.
            **kwargs: more parameters of :class:`OperatorStep`: ``retries``, ``timeout_s``, ``airflow``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        given = dict(locals())
        _refuse(name, given)
        arguments: dict[str, Any] = {
            "databricks_conn_id": ComputeSetting("conn_id"),
            "run_name": run_name or name,
            "polling_period_seconds": polling_period_s,
            "deferrable": bool(deferrable),
            **_task(name, given, _addresses(name, inputs, outputs)),
            **_cluster(name, given),
            **({} if timeout_seconds is None else {"timeout_seconds": timeout_seconds}),
            **({"libraries": [dict(each) for each in libraries]} if libraries else {}),
        }
        super().__init__(
            name, _OPERATOR, inputs, outputs, arguments,
            compute_target=compute_target, allow_reuse=allow_reuse, version=version, **kwargs,
        )  # fmt: skip


def _refuse(name: str, given: Mapping[str, Any]) -> None:
    if given["compute_target"] is None:
        raise PipelineError(f"DatabricksStep '{name}': compute_target is missing; give a DatabricksCompute")
    for each in ("python_script_name", "source_directory", "hash_paths"):
        if given[each]:
            raise NotSupportedError(
                f"DatabricksStep '{name}': {each} is not supported: no files are copied to Databricks; put the script "
                "where the cluster reaches it and give python_script_path=, and version= to change when it does"
            )
    for each in _LIBRARIES:
        if given[each]:
            raise NotSupportedError(
                f"DatabricksStep '{name}': {each} is not supported; give libraries= in Databricks' own form, such as "
                "[{'pypi': {'package': 'xgboost'}}]"
            )


def _addresses(name: str, inputs: Sequence[Any] | None, outputs: Sequence[Any] | None) -> dict[str, Url]:
    """Return the addresses of what the step reads and makes, by name."""
    found = {}
    for item in (*(inputs or ()), *(outputs or ())):
        data = item.data if isinstance(item, OutputView) and not item.consumed else item
        port = data.output_name if isinstance(data, Produced) else None
        if port is None and isinstance(item, Consumed):
            port = item.binding().name
        if port is None:
            raise PipelineError(f"DatabricksStep '{name}': {item!r} has no name that the program could know it by")
        found[port] = Url(item)
    return found


def _task(name: str, given: Mapping[str, Any], addresses: Mapping[str, Url]) -> dict[str, Any]:
    programs = [each for each in ("notebook_path", "python_script_path", "main_class_name") if given[each]]
    if len(programs) != 1:
        raise PipelineError(
            f"DatabricksStep '{name}': give one of notebook_path, python_script_path and main_class_name; "
            f"given are: {', '.join(programs) or 'none'}"
        )
    if programs == ["notebook_path"]:
        told = {**addresses, **{key: addressed(each) for key, each in (given["notebook_params"] or {}).items()}}
        return {"notebook_task": {"notebook_path": given["notebook_path"], "base_parameters": told}}
    words = [word for port, address in addresses.items() for word in (f"--{port}", address)]
    if programs == ["python_script_path"]:
        script = given["python_script_path"]
        words = [*map(addressed, given["python_script_params"] or ()), *words]
        return {"spark_python_task": {"python_file": script, "parameters": words}}
    words = [*map(addressed, given["jar_params"] or ()), *words]
    return {"spark_jar_task": {"main_class_name": given["main_class_name"], "parameters": words}}


def _cluster(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if given["existing_cluster_id"]:
        return {"existing_cluster_id": given["existing_cluster_id"]}
    if not given["spark_version"] or not (given["node_type"] or given["instance_pool_id"]):
        raise PipelineError(
            f"DatabricksStep '{name}': give existing_cluster_id, or spark_version and node_type (or instance_pool_id) "
            "for a cluster of its own"
        )
    workers: dict[str, Any] = {"num_workers": 1 if given["num_workers"] is None else given["num_workers"]}
    if given["min_workers"] is not None:
        workers = {"autoscale": {"min_workers": given["min_workers"], "max_workers": given["max_workers"]}}
    scripts = [
        {"dbfs" if s.startswith("dbfs:") else "workspace": {"destination": s}} for s in given["init_scripts"] or ()
    ]
    logs = given["cluster_log_dbfs_path"]
    said = {
        "spark_version": given["spark_version"],
        "node_type_id": given["node_type"],
        "instance_pool_id": given["instance_pool_id"],
        "spark_env_vars": given["spark_env_variables"],
        "spark_conf": given["spark_conf"],
        "init_scripts": scripts,
        "cluster_log_conf": {"dbfs": {"destination": logs}} if logs else None,
    }
    return {"new_cluster": {**workers, **{key: value for key, value in said.items() if value}}}
