"""The pipeline as data: what authoring makes and everything else reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic_core import PydanticSerializationError

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.data import InputSpec, ParameterRef
from airflow_mlpipe.model.data_value import NamedData
from airflow_mlpipe.model.digest import Digest, digest_bytes
from airflow_mlpipe.model.parameter import ParameterSpec, ParameterValue
from airflow_mlpipe.model.step import StepSpec

SCHEMA_VERSION = 1


def _with_data(port: InputSpec, named: Mapping[str, NamedData]) -> InputSpec:
    if not isinstance(port.source, ParameterRef):
        return port
    data = named[port.source.parameter]
    return port.model_copy(update={"source": data.source, "label": data.label, "dataset_id": data.dataset_id})


def _bound(step: StepSpec, named: Mapping[str, NamedData], values: Mapping[str, ParameterValue]) -> StepSpec:
    inputs = tuple(_with_data(port, named) for port in step.inputs)
    outputs = tuple(port.with_values(values) for port in step.outputs)
    changed = [*zip(inputs, step.inputs, strict=True), *zip(outputs, step.outputs, strict=True)]
    if all(made is port for made, port in changed):
        return step
    return step.model_copy(update={"inputs": inputs, "outputs": outputs})


class PipelineSpec(Frozen):
    """A compiled pipeline. Immutable; its digest is its version.

    Attributes:
        schema_version: version of this document's form.
        name: the DAG's name.
        description: free text.
        steps: in an order in which every step comes after those it depends on.
        parameters: the pipeline's parameters, by name.
        schedule: cron line or Airflow preset, or None for runs on request only.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    description: str = ""
    steps: tuple[StepSpec, ...]
    parameters: tuple[ParameterSpec, ...] = ()
    schedule: str | None = None

    def to_json(self) -> str:
        """Return the document that :meth:`from_json` reads. Equal specs give equal text.

        Raises:
            ParameterError: if a name or an argument holds text that is not Unicode.
        """
        try:
            return self.model_dump_json(exclude_defaults=True)
        except PydanticSerializationError as error:
            raise ParameterError(
                f"pipeline '{self.name}': a name or an argument is not valid Unicode: {error}"
            ) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> PipelineSpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            pydantic.ValidationError: if it is not such a document.
        """
        return cls.model_validate_json(text)

    @cached_property
    def digest(self) -> Digest:
        """Identity of the pipeline as written, its code included."""
        return digest_bytes(self.to_json().encode())

    @cached_property
    def step_by_id(self) -> Mapping[str, StepSpec]:
        """The steps by their id."""
        return {step.id: step for step in self.steps}

    def with_data(self, values: Mapping[str, ParameterValue]) -> PipelineSpec:
        """Return it with bound `values` in place of references to data parameters, and of parameters in destinations.

        A pipeline without such parameters is returned as it is. The result is what a run carries out; the version of
        the pipeline stays that of the original.

        Raises:
            ParameterError: if a value names no data, or another kind of dataset than its default, or leads a
                destination out of its datastore.
        """
        named = {each.name: each.data(values[each.name]) for each in self.parameters if each.is_data}
        steps = tuple(_bound(step, named, values) for step in self.steps)
        if all(made is step for made, step in zip(steps, self.steps, strict=True)):
            return self
        # Not a copy, which would take along what this one has worked out.
        return PipelineSpec(**{**{name: getattr(self, name) for name in PipelineSpec.model_fields}, "steps": steps})

    def bind(self, values: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Return the value of every parameter in a run that was given `values`.

        Raises:
            ParameterError: for an unknown name or a value of the wrong type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none; this pipeline has no parameters"
                raise ParameterError(f"pipeline '{self.name}' has no parameter '{name}'; it has: {allowed}")
        bound = {name: p.convert(values[name]) if name in values else p.default for name, p in known.items()}
        for name, parameter in known.items():
            if parameter.interval is not None and bound[name] == "":
                raise ParameterError(
                    f"pipeline '{self.name}' reads the data interval of its run, and this run has none; "
                    f"give '{name}', such as 2026-01-31T00:00:00+00:00, or a default_value where it is used"
                )
        return bound
