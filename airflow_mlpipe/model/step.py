"""One step of a pipeline, as it travels from the author to the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.data import InputSpec, OutputSpec
from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.operator_call import OperatorCall


class Argument(Frozen):
    """One element of a step's argument list.

    Attributes:
        kind: ``literal`` (the text itself), ``input`` or ``output`` (the path of that port) or
            ``parameter`` (the bound value of that pipeline parameter, as text).
        value: the text, the port's name or the parameter's name.
    """

    kind: Literal["literal", "input", "output", "parameter"] = "literal"
    value: str


class StepSpec(Frozen):
    """Everything an engine has to know about a step.

    Attributes:
        id: unique in the pipeline; a valid Airflow task id.
        name: the user's own text; need not be unique (v1 allows duplicates).
        kind: ``python`` runs `script` with the environment's interpreter; ``command`` runs `arguments`; ``operator``
            runs an operator of Airflow in the step's task.
        script: path of the script inside the snapshot, posix, for ``python``.
        arguments: for ``python`` what follows the script, for ``command`` the whole command.
        shell: for ``command``: True if the user wrote a shell line. Literals then are shell text; inputs,
            outputs and parameters reach the shell as positional parameters, never as text to parse.
        operator: for ``operator``: what runs.
        parameters: v1's ``params``: values for environment variables ``AML_PARAMETER_<name>``.
        inputs: input ports, in order.
        outputs: output ports, in order.
        snapshot: digest of all files of the source directory that are not ignored; None without one.
        code: digest of the files that decide about reuse: those of `snapshot`, or the fewer named by
            ``hash_paths``.
        environment: the software it asks for.
        compute: name of the compute target, or None for this machine.
        resources: what it asks for; what it leaves open its compute target decides.
        distribution: its processes, if it is more than one; None for a step that is one process.
        allow_reuse: whether an earlier result may stand in for running.
        version: v1's ``version``: a salt the user may change to make old results invalid.
        after: ids of steps that must have ended first although no data flows (``run_after``).
        retries: how often Airflow tries again after a failure.
        retry_delay_s: seconds between tries.
        timeout_s: seconds after which a try is ended, or None.
        max_result_age_s: seconds after its end from which on a result does not stand in for running, or None.
        airflow: arguments of the step's task in Airflow (see :mod:`airflow_mlpipe.model.task_settings`).
    """

    id: str
    name: str
    kind: Literal["python", "command", "operator"] = "python"
    script: str | None = None
    arguments: tuple[Argument, ...] = ()
    shell: bool = False
    operator: OperatorCall | None = None
    parameters: dict[str, Argument] = {}
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    snapshot: Digest | None = None
    code: Digest | None = None
    environment: EnvironmentSpec = Field(default_factory=EnvironmentSpec)
    compute: str | None = None
    resources: Resources = Resources()
    distribution: Distribution | None = None
    allow_reuse: bool = True
    version: str | None = None
    after: tuple[str, ...] = ()
    retries: int = 0
    retry_delay_s: float = 5.0
    timeout_s: float | None = None
    max_result_age_s: float | None = None
    airflow: dict[str, JsonValue] = {}

    @property
    def used_parameters(self) -> frozenset[str]:
        """Names of the pipeline parameters that it can see the values of."""
        words = (*self.arguments, *self.parameters.values())
        used = frozenset(word.value for word in words if word.kind == "parameter")
        return used if self.operator is None else used | self.operator.parameters
