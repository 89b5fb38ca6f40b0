"""The environment variables of a step: what it inherits, what its user set, and what tells it about its ports."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from airflow_mlpipe.execution.context import VARIABLE
from airflow_mlpipe.execution.contract import StepContext
from airflow_mlpipe.execution.software import Software
from airflow_mlpipe.model.data import DatasetSpec, InputSpec
from airflow_mlpipe.model.step import StepSpec


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of variables.

    Attributes:
        whole: names.
        beginnings: of names.
    """

    whole: frozenset[str]
    beginnings: tuple[str, ...]

    @classmethod
    def of(cls, *patterns: str) -> _Names:
        """Sort out names, and beginnings with a ``*`` behind them: to compile them all takes 2 ms of each task."""
        beginnings = tuple(each[:-1] for each in patterns if each.endswith("*"))
        return cls(frozenset(each for each in patterns if not each.endswith("*")), beginnings)

    def __contains__(self, name: str) -> bool:
        return name in self.whole or name.startswith(self.beginnings)

    def __or__(self, other: _Names) -> _Names:
        return _Names(self.whole | other.whole, self.beginnings + other.beginnings)


_INHERITED = _Names.of(
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "LD_LIBRARY_PATH"),
    *("CUDA_*", "NVIDIA_*", "ROCR_*", "HIP_*"),
    *("OMP_*", "MKL_*", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""What a step may see of the engine's environment: how this machine is reached and used, nothing of its secrets."""

_NEVER = _Names.of("AIRFLOW__*", "AIRFLOW_*", "_AIRFLOW_*", "MLPIPE_*", "AZUREML_*", "AML_PARAMETER_*")
"""What no setting can let through: Airflow's configuration and connections, and what would be another step's."""

_SYSTEM = _Names.of("PYTHON*", "LD_*", "DYLD_*", "VIRTUAL_ENV", "CONDA_*", "IFS", "ENV", "BASH_*", "PWD")
_RESERVED = _INHERITED | _NEVER | _SYSTEM
"""Names that mean something to the system: a port of such a name gets no variable of its bare name."""


def variables(
    step: StepSpec,
    context: StepContext,
    context_file: Path,
    software: Software,
    *,
    passed: Collection[str] = (),
) -> dict[str, str]:
    """Return the whole environment of a step's process.

    Args:
        step: the step.
        context: what its process is told.
        context_file: where it is told.
        software: what its process runs on.
        passed: names or patterns to inherit in addition (the workspace's setting ``pass_environment``).
    """
    inherited = {name: value for name, value in software.parent.items() if _inherits(name, passed)}
    told = {
        **_inputs(step, context),
        **_outputs(step, context),
        **_parameters(step, context),
        "AZUREML_RUN_ID": context.step_run_id,
        "AZUREML_ROOT_RUN_ID": context.run_id,
        "AZUREML_EXPERIMENT": context.experiment,
        # v1's own name for the same.
        "AZUREML_ARM_PROJECT_NAME": context.experiment,
        VARIABLE: str(context_file),
    }
    result = {"PYTHONUNBUFFERED": "1", **inherited, **software.variables, **step.environment.variables, **told}
    if "PATH" not in step.environment.variables and software.first_on_path is not None:
        result["PATH"] = _with_first(software.first_on_path, inherited.get("PATH", os.defpath))
    paths = [*_import_roots(step, context_file.parent / "code"), software.import_root, result.get("PYTHONPATH")]
    if any(paths):
        result["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return result


def _inherits(name: str, passed: Iterable[str]) -> bool:
    return (name in _INHERITED or any(fnmatchcase(name, each) for each in passed)) and name not in _NEVER


def _inputs(step: StepSpec, context: StepContext) -> dict[str, str]:
    result: dict[str, str] = {}
    for port in step.inputs:
        path = context.inputs[port.name].path
        if path is not None:
            result.update(_port(port.name, path, reference=_is_reference(port), dataset=_is_dataset(port)))
    return result


def _is_dataset(port: InputSpec) -> bool:
    return port.as_dataset or isinstance(port.source, DatasetSpec)


def _is_reference(port: InputSpec) -> bool:
    return not isinstance(port.source, DatasetSpec)


def _outputs(step: StepSpec, context: StepContext) -> dict[str, str]:
    result: dict[str, str] = {}
    for port in step.outputs:
        result.update(
            _port(
                port.name,
                context.outputs[port.name].path,
                reference=port.kind == "data",
                dataset=port.kind == "dataset",
            )
        )
    return result


def _port(name: str, path: str, *, reference: bool, dataset: bool) -> dict[str, str]:
    """Return v1's variables of a port. The system's own names are never given to a port."""
    if "=" in name or "\0" in name:
        return {}
    bare = dataset and name not in _RESERVED
    result = {name: path} if bare else {}
    if reference or not bare:
        result[f"AZUREML_DATAREFERENCE_{name}"] = path
    return result


def _parameters(step: StepSpec, context: StepContext) -> dict[str, str]:
    used = {argument.value for argument in step.arguments if argument.kind == "parameter"}
    result = {f"AML_PARAMETER_{name}": str(context.parameters[name]) for name in sorted(used)}
    for name, argument in step.parameters.items():
        value = str(context.parameters[argument.value]) if argument.kind == "parameter" else argument.value
        result[f"AML_PARAMETER_{name}"] = value
    return result


def _with_first(folder: str, path: str) -> str:
    return path if path.split(os.pathsep)[0] == folder else f"{folder}{os.pathsep}{path}"


def _import_roots(step: StepSpec, code: Path) -> list[str]:
    """Return what must stand on ``sys.path`` besides the script's own folder."""
    # A script in a sub-folder imports the snapshot's packages from its root, as v1 users expect.
    return [str(code)] if step.script is not None and "/" in step.script else []
