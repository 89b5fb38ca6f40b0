"""A value that is given when a pipeline is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import ParameterRef
from airflow_mlpipe.model.data_value import path_text, text_of
from airflow_mlpipe.model.parameter import ParameterSpec

_NAME = re.compile(r"\w[\w .-]{0,199}")


class PipelineParameter:
    """A parameter of a pipeline: usable in a step's `arguments` and `params`, given a value per run.

    Its type is that of its default, and every value is converted to it.
    """

    def __init__(self, name: str, default_value: object) -> None:
        """Name a parameter.

        Args:
            name: unique in the pipeline: letters, digits, ``_``, ``-``, ``.`` and spaces.
            default_value: a str, int, float or bool; used by runs that give no value. Also data: a DataPath, which
                steps get by the pair ``(parameter, DataPathComputeBinding())``, or a dataset, which they get by
                ``DatasetConsumptionConfig('name', parameter)``. A run then gives another DataPath or dataset, or its
                name: ``workspaceblobstore:/folder``, ``images``, ``images:3``.

        Raises:
            ParameterError: if the name is not allowed or the default has another type.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ParameterError(
                f"pipeline parameter name {name!r} is not allowed; use letters, digits, '_', '-', '.' and spaces"
            )
        kind, value = data_value(default_value)
        self._given = default_value
        if kind is None:
            self._spec = ParameterSpec.of(name, default_value)
        else:
            self._spec = ParameterSpec(name=name, type=kind, default=value)

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    @property
    def default_value(self) -> Any:
        """Used by runs that give no value; data as it was given."""
        return self._given if self._spec.is_data else self._spec.default

    @property
    def ref(self) -> ParameterRef:
        """Stands for its data among a step's inputs."""
        return ParameterRef(parameter=self.name)

    @property
    def spec(self) -> ParameterSpec:
        """Its wire form."""
        return self._spec

    def __repr__(self) -> str:
        return f"PipelineParameter(name={self.name!r}, default_value={self.default_value!r})"


def data_value(value: object) -> tuple[Literal["data_path", "dataset"] | None, Any]:
    """Return which kind of data a value is, and how it travels; None and the value itself for all others."""
    from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
    from airflow_mlpipe.sdk.data_path import DataPath

    if isinstance(value, DataPath):
        return "data_path", path_text(value.place)
    if isinstance(value, AbstractDataset):
        return "dataset", text_of(value.spec, value.id, value.label)
    return None, value


def wire_values(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that a user gives a run, with data as it travels."""
    return {name: data_value(value)[1] for name, value in values.items()}


class _DataInterval(PipelineParameter):
    """One end of the data interval of a run."""

    end: Literal["start", "end"]

    def __init__(self, default_value: str | date | None = None) -> None:
        """Ask for it.

        Args:
            default_value: for runs without a data interval: ISO 8601 or a datetime, in UTC unless it says otherwise. By
                default such a run is refused until it gives a value of this name among its pipeline parameters.

        Raises:
            ParameterError: if the default is not a moment.
        """
        spec = ParameterSpec(name=f"data_interval_{self.end}", type="string", default="", interval=self.end)
        if default_value is not None:
            spec = spec.model_copy(update={"default": spec.convert(default_value)})
        self._spec = spec

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.default_value!r})"


class DataIntervalStart(_DataInterval):
    """The start of the run's data interval, for a step's `arguments` and `params`: ``2026-01-31T00:00:00+00:00``.

    A run of a schedule, a catchup or a backfill has one. It is in the key only of steps that use it. In every other way
    it is a pipeline parameter called ``data_interval_start``: ``submit(pipeline_parameters=...)`` may give it.
    """

    end = "start"


class DataIntervalEnd(_DataInterval):
    """The end of the run's data interval; see :class:`DataIntervalStart`. As a parameter: ``data_interval_end``."""

    end = "end"
