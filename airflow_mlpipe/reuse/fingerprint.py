"""The identity of one execution: every component by name, and why it is part of the key.

Two executions with the same key are interchangeable: one may stand in for the other. What is not listed
here - the step's name, experiment, run, compute target, resources, retries, ``allow_reuse``, datastore
names, absolute paths, times, secret values - does not change what a step computes, and so is not in the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_mlpipe.model.data import InputSpec
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.step import Argument, StepSpec

FORMAT = 1
"""Version of this definition. Raising it makes every earlier result unreachable."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What of a step's identity is known before its inputs are.

    Attributes:
        components: every named part of the key but ``inputs``.
        digest: of those components.
    """

    components: Mapping[str, JsonValue]
    digest: Digest

    def key(self, inputs: Mapping[str, Digest]) -> Digest:
        """Return the key of executing the step on `inputs`: content digest of each port."""
        return digest_json("step", [self.digest, dict(inputs)])

    def derivation(self, inputs: Mapping[str, Digest]) -> Digest:
        """Return the key that only fetches candidates: `inputs` may name what is not computed yet.

        For a leaf the content digest, for a producer's output :func:`derived` of the producer's derivation.
        """
        return digest_json("derivation", [self.digest, dict(inputs)])

    def with_inputs(self, step: StepSpec, inputs: Mapping[str, Digest]) -> dict[str, JsonValue]:
        """Return all components, ``inputs`` included, as they are kept for explanations."""
        components = {**self.components, "inputs": {port.name: inputs[port.name] for port in step.inputs}}
        # How people call what was read. It tells them "v1 -> v2"; the key does not have it.
        labels = {port.name: port.label for port in step.inputs if port.label}
        return {**components, "labels": labels} if labels else components


def derived(producer: Digest, output: str) -> Digest:
    """Return what stands for an output in derivation keys: the producer's derivation and the port's name."""
    return digest_json("derived", [producer, output])


def identify(step: StepSpec, parameters: Mapping[str, JsonValue], environment: Mapping[str, JsonValue]) -> Identity:
    """Return the identity of `step` apart from the content of its inputs.

    Args:
        step: the step.
        parameters: bound values of the pipeline's parameters; those the step does not use are left out.
        environment: what the step's software is, by name (see ``execution.environments``).
    """
    components: dict[str, JsonValue] = {
        # A changed definition of the key must not meet results that were stored under the old one.
        "format": FORMAT,
        # The user's own salt: `version=` says "the same text now means something else".
        "version": step.version,
        # Running a script and running a command line are different acts even if their words agree.
        "kind": [step.kind, step.shell],
        # What is executed, word by word; ports and parameters by name, so that paths do not matter.
        "command": [step.script, *([argument.kind, argument.value] for argument in step.arguments)],
        # Values the words stand for. Typed: 1, 1.0, true and "1" are different.
        "parameters": _used_parameters(step, parameters),
        # How inputs are delivered: a script sees a copy it may change or a read-only path, a path or an object.
        "ports": {port.name: _delivery(port) for port in step.inputs},
        # The text of the program.
        "code": step.code,
        # The software it runs on, and what the user told it through variables.
        "environment": dict(environment),
        "variables": dict(step.environment.variables),
        # Which results are promised, and where: a result without one of them cannot serve.
        "outputs": {port.name: [port.kind, port.destination] for port in step.outputs},
    }
    if step.distribution is not None:
        # How many processes share the work decides who computes what, and in which order it is added up.
        components["distribution"] = step.distribution.facts(parameters)
    if step.operator is not None:
        # What of Airflow's is called, with every argument as it was written.
        components["operator"] = step.operator.identity()
    return Identity(components, digest_json("identity", components))


def _delivery(port: InputSpec) -> list[JsonValue]:
    delivery = [port.mode, port.as_dataset, port.path_on_compute]
    # How an output of another step is read; for datasets that is part of their content.
    return delivery if port.view is None else [*delivery, port.view.model_dump(mode="json", exclude_defaults=True)]


def _used_parameters(step: StepSpec, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what the step can see of the parameters: those in its arguments, its operator's and its ``params``."""
    used = {argument.value: values[argument.value] for argument in step.arguments if argument.kind == "parameter"}
    if step.operator is not None:
        used.update({name: values[name] for name in step.operator.parameters})
    for name, argument in step.parameters.items():
        used[f"AML_PARAMETER_{name}"] = _value(argument, values)
    return used


def _value(argument: Argument, values: Mapping[str, JsonValue]) -> JsonValue:
    return values[argument.value] if argument.kind == "parameter" else argument.value
