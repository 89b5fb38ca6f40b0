"""Whether all who speak of an output of a step mean the same kind of data."""

from __future__ import annotations

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.data import DatasetView, RegisterSpec
from airflow_mlpipe.sdk.binding import Produced
from airflow_mlpipe.sdk.graph import Draft


def check_views(draft: Draft) -> None:
    """Refuse a pipeline in which an output is read, or registered, as tables of two formats.

    Raises:
        PipelineError: naming the output and both sides.
    """
    said: dict[Produced, tuple[str, str]] = {}
    for step in draft.order:
        for data in draft.ports[step].outputs:
            if data.registration is not None and data.registration.kind == "tabular":
                _agree(said, data, f"is registered as '{data.registration.name}'", data.registration)
    for step in draft.order:
        for binding in draft.ports[step].inputs.values():
            if isinstance(binding.source, Produced) and binding.view is not None and binding.view.kind == "tabular":
                _agree(said, binding.source, f"is read by step '{step.name}'", binding.view)


def _agree(said: dict[Produced, tuple[str, str]], data: Produced, who: str, view: DatasetView | RegisterSpec) -> None:
    kind = str(view.options.get("format"))
    other, known = said.setdefault(data, (who, kind))
    if known != kind:
        raise PipelineError(
            f"output '{data.output_name or data.input_name}' {other} as {known} files and {who} as {kind} files; "
            "read it in one way"
        )
