"""A step that runs an operator of Airflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.operator_call import OperatorCall
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.operator_arguments import WrittenCall
from airflow_mlpipe.sdk.steps import PipelineStep

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class OperatorStep(PipelineStep):
    """Runs any operator of Airflow as a step: with inputs, outputs, parameters and reuse.

    The operator is named, not imported: the engine imports it when the pipeline is submitted, to check its arguments,
    and when the step runs. Nothing in its arguments is a template unless `templated` says so.
    """

    kind: Literal["python", "command", "operator"] = "operator"

    def __init__(
        self,
        name: str,
        operator: str | type,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        *,
        return_output: Produced | None = None,
        templated: bool = False,
        compute_target: str | ComputeTarget | None = None,
        source_directory: str | os.PathLike[str] | None = None,
        hash_paths: Iterable[str | os.PathLike[str]] | None = None,
        allow_reuse: bool | None = None,
        version: str | None = None,
        retries: int = 0,
        retry_delay_s: float = 5.0,
        timeout_s: float | None = None,
        max_result_age: timedelta | float | None = None,
        airflow: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe a step.

        Args:
            name: for people, and the operator's task id.
            operator: import path of its class, e.g. ``airflow.providers.standard.operators.bash.BashOperator``, or the
                class.
            inputs: data it reads. Data in `arguments` need not be here as well.
            outputs: data it makes.
            arguments: the operator's arguments by name: what JSON can say. Anywhere inside may stand data (the path of
                an input, or the one to write an output to), a PipelineParameter (its value, typed), ``Url(data)``,
                ``Joined("text ", data)`` and ``SourceFile("script.sql")``.
            return_output: one of `outputs`: gets what the operator returns, as a file of JSON. Without it the value is
                kept as the step's property ``return_value``.
            templated: render Airflow's templates (``{{ ds }}``) in the arguments that the operator declares as template
                fields. The values of data and parameters never are. Such a step is not reused: what a template comes
                to is not known before the run.
            compute_target: the target whose settings the arguments name.
            source_directory: folder of the files that ``SourceFile`` names; by default it has none.
            hash_paths: files of it that decide about reuse; by default all.
            allow_reuse: whether an earlier result for the same inputs may stand in for running; by default if it has
                outputs and no templates, since an operator without outputs is run for what it does elsewhere.
            version: a salt: another one makes old results invalid.
            retries: how often the step is tried again after a failure.
            retry_delay_s: seconds between tries.
            timeout_s: seconds after which a try is ended, or None.
            max_result_age: as for :class:`PythonScriptStep`.
            airflow: more arguments of its task in Airflow, e.g. ``{"pool": "spark"}``; see docs/how-to/operators.md.

        Raises:
            UsageError: if an argument is not allowed.
        """
        self.operator = _path_of(name, operator)
        self.templated = bool(templated)
        if templated and allow_reuse:
            raise PipelineError(
                f"step '{name}': templated=True does not go together with allow_reuse=True: what a template comes to "
                "is no part of the key; use PipelineParameter or DataIntervalStart instead of templates"
            )
        made = [] if outputs is None else [*outputs]
        if return_output is not None and return_output not in made:
            made.append(return_output)
        self.return_output = return_output
        self._call = WrittenCall.of(name, arguments or {})
        default = bool(made or self._call_makes(made)) and not templated
        super().__init__(
            name,
            inputs,
            made,
            self._call.data,
            compute_target=compute_target,
            source_directory=source_directory,
            hash_paths=hash_paths,
            allow_reuse=default if allow_reuse is None else allow_reuse,
            version=version,
            retries=retries,
            retry_delay_s=retry_delay_s,
            timeout_s=timeout_s,
            max_result_age=max_result_age,
            airflow=airflow,
        )

    def operator_call(self, words: Sequence[Argument], outputs: Mapping[Produced, str]) -> OperatorCall:
        """Return its wire form.

        Args:
            words: what each piece of data in its arguments came to.
            outputs: names of its output ports.
        """
        return OperatorCall(
            path=self.operator,
            arguments=self._call.json,
            slots=self._call.bound(words),
            templated=self.templated,
            returns=None if self.return_output is None else outputs[self.return_output],
        )

    def _call_makes(self, made: Sequence[Any]) -> bool:
        """Whether its arguments hold data that nobody has made yet: bare data that no step claims is its output."""
        return any(isinstance(data, Produced) and not data.claims and data not in made for data in self._call.data)


def _path_of(step: str, operator: object) -> str:
    if isinstance(operator, type):
        operator = f"{operator.__module__}.{operator.__qualname__}"
    if not isinstance(operator, str) or not _PATH.fullmatch(operator) or operator.startswith("__main__."):
        raise PipelineError(
            f"step '{step}': operator {operator!r} is not allowed; give the import path of an operator's class, e.g. "
            "'airflow.providers.standard.operators.bash.BashOperator', from a module that the workers can import"
        )
    return operator
