"""A value that is given when a pipeline is submitted."""

from __future__ import annotations

import re

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.parameter import ParameterSpec, ParameterValue

_NAME = re.compile(r"\w[\w .-]{0,199}")


class PipelineParameter:
    """A parameter of a pipeline: usable in a step's `arguments` and `params`, given a value per run.

    Its type is that of its default, and every value is converted to it.
    """

    def __init__(self, name: str, default_value: object) -> None:
        """Name a parameter.

        Args:
            name: unique in the pipeline: letters, digits, ``_``, ``-``, ``.`` and spaces.
            default_value: a str, int, float or bool; used by runs that give no value.

        Raises:
            ParameterError: if the name is not allowed or the default has another type.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ParameterError(
                f"pipeline parameter name {name!r} is not allowed; use letters, digits, '_', '-', '.' and spaces"
            )
        self._spec = ParameterSpec.of(name, default_value)

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    @property
    def default_value(self) -> ParameterValue:
        """Used by runs that give no value."""
        return self._spec.default

    @property
    def spec(self) -> ParameterSpec:
        """Its wire form."""
        return self._spec

    def __repr__(self) -> str:
        return f"PipelineParameter(name={self.name!r}, default_value={self.default_value!r})"
