"""From a step's run configuration to its ranks. What contradicts itself is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.model import distribution as wire
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.sdk.distribution import Count, checked_count
from airflow_mlpipe.sdk.parameter import PipelineParameter

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.places import Places
    from airflow_mlpipe.sdk.run_configuration import RunConfiguration
    from airflow_mlpipe.sdk.steps import PipelineStep

Kind = Literal["mpi", "pytorch", "tensorflow"]

_KINDS: dict[str, Kind | None] = {
    "none": None,
    "openmpi": "mpi",
    "intelmpi": "mpi",
    "nccl": "pytorch",
    "gloo": "pytorch",
    "parameterserver": "tensorflow",
}
"""What starts the ranks, by v1's communicator."""

_COMMUNICATORS = "'None', 'OpenMpi', 'IntelMpi', 'Nccl', 'Gloo' and 'ParameterServer'"

_FRAMEWORKS: dict[Kind, tuple[str, ...]] = {
    # mpirun starts ranks of anything.
    "mpi": (),
    "pytorch": ("pytorch", "python"),
    "tensorflow": ("tensorflow", "python"),
}

_KEYS: dict[str, tuple[Kind, ...]] = {
    "NodeCount": ("mpi", "pytorch"),
    "MpiProcessCountPerNode": ("mpi",),
    "TensorflowWorkerCount": ("tensorflow",),
    "TensorflowParameterServerCount": ("tensorflow",),
}
"""The keys of v1's ``runconfig_pipeline_params``, by what they mean something for."""


def distribution_of(step: PipelineStep, places: Places) -> Distribution | None:
    """Return the ranks of a step, or None for a step that is one process.

    Raises:
        ParameterError: if a count is not allowed.
        PipelineError: if what says how ranks are started contradicts itself, or nothing says it.
        NotSupportedError: if its compute target cannot run so many nodes.
    """
    if step.runconfig is None:
        _check_keys(step, None)
        return None
    try:
        kind = _kind(step, step.runconfig)
        _check_keys(step, kind)
        made = None if kind is None else _MAKERS[kind](step, step.runconfig)
    except ParameterError as error:
        raise ParameterError(f"step '{step.name}': {error.message}") from None
    if made is not None:
        _check_place(step, made, places)
    return made


def slots_of(step: PipelineStep, made: Distribution | None, places: Places) -> dict[str, JsonValue]:
    """Return what a step says of its task so that each of its pods counts as one node of its compute target.

    Where a parameter holds their number its default counts: a task has as many slots in each run.

    Raises:
        PipelineError: if its compute target has fewer nodes.
    """
    name = places.compute(step)
    if made is None or name is None or places.compute_kind(step) != "kubernetes":
        return {}
    held = [value for value in step.runconfig_pipeline_params.values() if isinstance(value, PipelineParameter)]
    if step.runconfig is not None:
        held += step.runconfig.parameters()
    nodes = made.bound({parameter.name: parameter.default_value for parameter in held}, step.name).machines()
    limit = places.limit(name)
    if limit is not None and nodes > limit:
        raise PipelineError(
            f"step '{step.name}': {nodes} nodes on compute target '{name}', which has max_nodes={limit}; ask for "
            "fewer, or give it more"
        )
    return {"pool_slots": nodes} if nodes > 1 else {}


def _kind(step: PipelineStep, configuration: RunConfiguration) -> Kind | None:
    name = str(configuration.communicator or "None")
    if name.lower() not in _KINDS:
        raise PipelineError(f"step '{step.name}': communicator {name!r} is not known; allowed are {_COMMUNICATORS}")
    kind = _KINDS[name.lower()]
    if kind is None:
        if _is_one(configuration.node_count) and _is_one(configuration.mpi.process_count_per_node):
            return None
        raise PipelineError(
            f"step '{step.name}': its run configuration asks for more than one process and does not say how they are "
            "started; set runconfig.communicator: 'OpenMpi' for mpirun, 'Gloo' or 'Nccl' for PyTorch, "
            "'ParameterServer' for TensorFlow"
        )
    framework = str(configuration.framework)
    if _FRAMEWORKS[kind] and framework.lower() not in _FRAMEWORKS[kind]:
        raise PipelineError(
            f"step '{step.name}': framework {framework!r} and communicator {name!r} contradict each other; "
            f"{name} is for {'PyTorch' if kind == 'pytorch' else 'TensorFlow'}, and OpenMpi goes with all"
        )
    return kind


def _is_one(count: Count) -> bool:
    return not isinstance(count, PipelineParameter) and count == 1


def _check_keys(step: PipelineStep, kind: Kind | None) -> None:
    for key in step.runconfig_pipeline_params:
        if kind not in _KEYS[key]:
            meant = "'OpenMpi'" if "mpi" in _KEYS[key] else "'ParameterServer'"
            raise PipelineError(
                f"step '{step.name}': runconfig_pipeline_params has '{key}', and its run configuration starts no such "
                f"processes; set runconfig.communicator to {meant}"
            )


def _mpi(step: PipelineStep, configuration: RunConfiguration) -> Distribution:
    return Distribution(
        kind="mpi",
        nodes=_nodes(step, configuration, configuration.mpi.node_count),
        processes_per_node=_count(
            step, "MpiProcessCountPerNode", "process_count_per_node", configuration.mpi.process_count_per_node
        ),
    )


def _pytorch(step: PipelineStep, configuration: RunConfiguration) -> Distribution:
    part = configuration.pytorch
    nodes = _nodes(step, configuration, part.node_count)
    return Distribution(
        kind="pytorch",
        nodes=nodes,
        processes_per_node=1 if part.process_count is None else _shared(step, part.process_count, nodes),
        backend="gloo" if str(configuration.communicator).lower() == "gloo" else "nccl",
    )


def _shared(step: PipelineStep, process_count: object, nodes: wire.Count) -> int:
    """Return how many of `process_count` processes are on each node."""
    total = checked_count("process_count", process_count)
    if isinstance(nodes, str) or isinstance(total, PipelineParameter):
        raise PipelineError(
            f"step '{step.name}': process_count={total!r} is of all nodes together, so it and node_count have to be "
            "numbers; leave process_count out for one process on each node, or use MpiConfiguration"
        )
    each, rest = divmod(total, nodes)
    if rest or not each:
        raise ParameterError(
            f"process_count={total} cannot be shared evenly by node_count={nodes}; "
            "it is the number of processes on all nodes together"
        )
    return each


def _tensorflow(step: PipelineStep, configuration: RunConfiguration) -> Distribution:
    part = configuration.tensorflow
    return Distribution(
        kind="tensorflow",
        workers=_count(step, "TensorflowWorkerCount", "worker_count", part.worker_count),
        parameter_servers=_count(
            step, "TensorflowParameterServerCount", "parameter_server_count", part.parameter_server_count, least=0
        ),
    )


_MAKERS = {"mpi": _mpi, "pytorch": _pytorch, "tensorflow": _tensorflow}


def _nodes(step: PipelineStep, configuration: RunConfiguration, also: Count) -> wire.Count:
    """Return the nodes; v1 has them in two places."""
    given = configuration.node_count
    if not _is_one(given) and not _is_one(also) and given != also:
        raise PipelineError(
            f"step '{step.name}': runconfig.node_count is {given!r} and that of its {configuration.communicator} "
            f"configuration {also!r}; give one of them"
        )
    return _count(step, "NodeCount", "node_count", also if _is_one(given) else given)


def _count(step: PipelineStep, key: str, name: str, given: Count, *, least: int = 1) -> wire.Count:
    value = checked_count(name, step.runconfig_pipeline_params.get(key, given), least=least)
    return value.name if isinstance(value, PipelineParameter) else value


def _check_place(step: PipelineStep, made: Distribution, places: Places) -> None:
    kind = places.compute_kind(step)
    if kind == "ssh":
        raise NotSupportedError(
            f"step '{step.name}': ranks are not started on compute target '{places.compute(step)}', which is reached "
            "by SSH; start them in the script, or use a local or docker target, or a pod"
        )
    if made.parameters or kind != "kubernetes":
        # With parameters the run looks, once it has their values.
        return
    # Here, not above: few steps are many processes in pods.
    from airflow_mlpipe.execution.distribution import check_pods

    check_pods(made, step.name, places.compute(step))
