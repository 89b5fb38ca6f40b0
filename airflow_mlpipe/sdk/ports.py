"""The ports of one step: every form in which data is given to it, brought to named inputs, outputs and words."""

from __future__ import annotations

import os
import shlex
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Number
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.model.parameter import is_unicode
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
from airflow_mlpipe.sdk.binding import Binding, Consumed, OutputView, Produced
from airflow_mlpipe.sdk.parameter import PipelineParameter
from airflow_mlpipe.sdk.reference import DataReference
from airflow_mlpipe.sdk.steps import PipelineStep


@dataclass(slots=True)
class Ports:
    """The ports of a step.

    Attributes:
        inputs: what is read, by port name, in order.
        outputs: port name of everything the step makes, in order.
        arguments: the words of its process.
        params: the words of its ``AML_PARAMETER_`` variables.
        parameters: the pipeline parameters it uses.
    """

    inputs: dict[str, Binding] = field(default_factory=dict)
    outputs: dict[Produced, str] = field(default_factory=dict)
    arguments: tuple[Argument, ...] = ()
    params: dict[str, Argument] = field(default_factory=dict)
    parameters: list[PipelineParameter] = field(default_factory=list)


def ports_of(step: PipelineStep, producers: Mapping[Produced, PipelineStep]) -> Ports:
    """Return the ports of `step`.

    Args:
        step: the step.
        producers: who makes each piece of data of the pipeline.

    Raises:
        PipelineError: for something that is no data, a repeated port name or an argument of a wrong type.
    """
    ports = Ports(outputs=_outputs(step, producers))
    inputs = _Inputs(step)
    words: list[Argument | int] = []
    for position, item in enumerate((*step.inputs, *_references(step))):
        inputs.add(_input(step, item, position))
    for position, value in enumerate(step.arguments):
        data = value.data if isinstance(value, OutputView) and not value.consumed else value
        if isinstance(data, Produced) and data in ports.outputs:
            words.append(Argument(kind="output", value=ports.outputs[data]))
        elif isinstance(value, Consumed):
            binding = value.binding()
            # A bare mention only points at an input that is there under whatever name.
            words.append(inputs.add(replace(binding, fixed=False) if isinstance(data, Produced) else binding))
        else:
            words.append(_word(step, position, value, ports))
    ports.inputs, names = inputs.named()
    ports.parameters += [each for data in ports.outputs for each in data.destination_parameters]
    ports.parameters += [binding.parameter for binding in ports.inputs.values() if binding.parameter is not None]
    ports.arguments = tuple(Argument(kind="input", value=names[w]) if isinstance(w, int) else w for w in words)
    ports.params = {name: _parameter(step, name, value, ports) for name, value in step.params.items()}
    return ports


def _outputs(step: PipelineStep, producers: Mapping[Produced, PipelineStep]) -> dict[Produced, str]:
    for position, output in enumerate(step.outputs):
        if not isinstance(output, (Produced, OutputView, DataReference)):
            raise PipelineError(
                f"step '{step.name}': outputs[{position}] is a {type(output).__name__}; "
                "allowed are PipelineData, OutputFileDatasetConfig and DataReference"
            )
    made = dict.fromkeys(step.declared_outputs())
    made.update(dict.fromkeys(data for data in step.bare_arguments() if producers.get(data) is step))
    taken = {data.output_name for data in made}
    names: dict[Produced, str] = {}
    for position, data in enumerate(made, start=1):
        name = data.output_name or _free(f"output_{position}", taken)
        taken.add(name)
        if name in names.values():
            raise PipelineError(f"step '{step.name}': [{name}] is repeated. Output port names must be unique")
        names[data] = name
    return names


def _references(step: PipelineStep) -> list[DataReference]:
    # v1 allows to write to a reference; it is the place itself, which the step is given like an input.
    return [output for output in step.outputs if isinstance(output, DataReference)]


def _input(step: PipelineStep, item: Any, position: int) -> Binding:
    if isinstance(item, Consumed):
        return item.binding()
    if isinstance(item, AbstractDataset):
        raise PipelineError(f"step '{step.name}': inputs[{position}]: {_dataset_advice(item)}")
    raise PipelineError(
        f"step '{step.name}': inputs[{position}] is a {type(item).__name__}; allowed are PipelineData, DataReference, "
        "dataset.as_named_input('name') and what as_input(), as_mount() and as_download() return"
    )


def _dataset_advice(dataset: AbstractDataset) -> str:
    how = ".as_mount()" if dataset.kind == "file" else ""
    return (
        "Datasets cannot be used directly as inputs or arguments. Please make sure you've named it: "
        f"dataset.as_named_input('name'){how}"
    )


def _word(step: PipelineStep, position: int, value: Any, ports: Ports) -> Argument:
    if isinstance(value, PipelineParameter):
        return _of_parameter(step, f"argument {position}", value, ports)
    if isinstance(value, str):
        text = value
    elif isinstance(value, Number):
        text = str(value)
    elif isinstance(value, os.PathLike):
        text = shlex.quote(os.fspath(value)) if step.shell else os.fspath(value)
    elif isinstance(value, AbstractDataset):
        raise PipelineError(f"step '{step.name}': argument {position}: {_dataset_advice(value)}")
    else:
        raise PipelineError(
            f"step '{step.name}': argument {position} is {value!r}, a {type(value).__name__}; allowed are str, int, "
            "float, bool, Path, PipelineParameter, PipelineData, OutputFileDatasetConfig, DataReference, named datasets"
        )
    if "\0" in text:
        raise PipelineError(f"step '{step.name}': argument {position} holds a NUL character; remove it")
    if not is_unicode(text):
        raise PipelineError(f"step '{step.name}': argument {position} is {text!r}, which is not valid Unicode")
    return Argument(value=text)


def _parameter(step: PipelineStep, name: str, value: Any, ports: Ports) -> Argument:
    if not name or "=" in name or "\0" in name:
        raise PipelineError(
            f"step '{step.name}': params: the name {name!r} is not allowed; it is not empty, and has no '=' and no NUL "
            "character, for its value is an environment variable"
        )
    if isinstance(value, PipelineParameter):
        return _of_parameter(step, f"params[{name!r}]", value, ports)
    if not isinstance(value, (str, Number)):
        raise PipelineError(
            f"step '{step.name}': params[{name!r}] is a {type(value).__name__}; allowed are str, int, float, bool and "
            "PipelineParameter"
        )
    if "\0" in str(value):
        raise PipelineError(f"step '{step.name}': params[{name!r}] holds a NUL character; remove it")
    return Argument(value=str(value))


def _of_parameter(step: PipelineStep, where: str, value: PipelineParameter, ports: Ports) -> Argument:
    if value.spec.is_data:
        how = (
            f"({value.name}, DataPathComputeBinding(mode='mount')), the same pair in arguments and inputs"
            if value.spec.type == "data_path"
            else f"DatasetConsumptionConfig('{value.name}', {value.name})"
        )
        raise PipelineError(
            f"step '{step.name}': {where} is the parameter '{value.name}', which names data; write {how}"
        )
    ports.parameters.append(value)
    return Argument(kind="parameter", value=value.name)


class _Inputs:
    """Collects what a step reads, and then gives each port its name."""

    def __init__(self, step: PipelineStep) -> None:
        self._step = step
        self._all: list[Binding] = []

    def add(self, binding: Binding) -> int:
        """Note an input and return its number."""
        self._all.append(binding)
        return len(self._all) - 1

    def named(self) -> tuple[dict[str, Binding], list[str]]:
        """Return the ports by name, and for each number its port's name.

        What the user named keeps its name, and the same data under the same name is one port. What he did not name
        joins a port of the same data, or gets a name of its own: that of the data, or one by its position.
        """
        ports: dict[str, Binding] = {}
        names: dict[int, str] = {}
        by_source: dict[Hashable, list[str]] = {}

        def put(number: int, name: str, binding: Binding) -> None:
            names[number] = name
            if name in ports:
                ports[name] = self._merged(name, ports[name], binding)
            else:
                ports[name] = binding
                by_source.setdefault(_key(binding), []).append(name)

        for number, binding in enumerate(self._all):
            if binding.fixed and binding.name:
                put(number, binding.name, binding)
        taken = set(ports)
        for number, binding in enumerate(self._all):
            if number in names:
                continue
            same = [name for name in by_source.get(_key(binding), ()) if _agree(ports[name], binding)]
            name = same[0] if same else _free(binding.name or f"input_{len(ports) + 1}", taken)
            taken.add(name)
            put(number, name, binding)
        in_order = dict.fromkeys(names[number] for number in range(len(self._all)))
        return {name: ports[name] for name in in_order}, [names[number] for number in range(len(self._all))]

    def _merged(self, name: str, one: Binding, other: Binding) -> Binding:
        if _key(one) != _key(other):
            raise PipelineError(f"step '{self._step.name}': [{name}] is repeated. Input port names must be unique")
        if not _agree(one, other):
            raise PipelineError(
                f"step '{self._step.name}': input '{name}' is wanted in mode {one.mode} and in mode {other.mode}; "
                "give one of them another name"
            )
        said = other if other.explicit and not one.explicit else one
        return replace(
            said,
            as_dataset=one.as_dataset or other.as_dataset,
            path_on_compute=said.path_on_compute or one.path_on_compute or other.path_on_compute,
        )


def _agree(one: Binding, other: Binding) -> bool:
    return one.mode == other.mode or not (one.explicit and other.explicit)


def _key(binding: Binding) -> Hashable:
    source = binding.source
    key = source if isinstance(source, (Produced, DatastorePath)) else source.model_dump_json()
    return key if binding.view is None else (key, binding.view.model_dump_json())


def _free(wanted: str, taken: set[str] | set[str | None]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
