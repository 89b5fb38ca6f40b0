"""Finding a run by what people type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import NotFoundError, ParameterError
from airflow_mlpipe.sdk.experiment import Experiment
from airflow_mlpipe.sdk.pipeline_run import PipelineRun

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import RunRow
    from airflow_mlpipe.sdk.workspace import Workspace

SHORTEST_PREFIX = 4


def find_run(workspace: Workspace, text: str) -> PipelineRun:
    """Return the pipeline run that `text` means.

    Args:
        workspace: where to look.
        text: a run id, the beginning of one (4 characters or more), ``last``, ``last~1`` for the one before it and so
            on; ``-1`` and ``-2`` mean these two as well.

    Raises:
        NotFoundError: if there is none.
        ParameterError: if a beginning fits several.
    """
    row = _by_position(workspace, text) or _by_id(workspace, text)
    return PipelineRun(Experiment(workspace, row.experiment), row.id, _row=row)


def list_runs(workspace: Workspace, experiment: str | None = None, limit: int | None = None) -> list[PipelineRun]:
    """Return the pipeline runs of a workspace, newest first.

    Args:
        workspace: where they are.
        experiment: only those of this experiment.
        limit: at most so many.
    """
    rows = workspace.catalog.list_runs(experiment=experiment, limit=limit)
    return [PipelineRun(Experiment(workspace, row.experiment), row.id, _row=row) for row in rows]


def _by_position(workspace: Workspace, text: str) -> RunRow | None:
    match = re.fullmatch(r"last(?:~(\d+))?|-([1-9]\d*)", text)
    if match is None:
        return None
    back = int(match[2]) if match[2] else int(match[1] or 0) + 1
    rows = workspace.catalog.list_runs(limit=back)
    if len(rows) < back:
        have = f"only {len(rows)} run{'' if len(rows) == 1 else 's'}" if rows else "no runs yet"
        raise NotFoundError(
            f"there is no run '{text}': workspace '{workspace.name}' has {have}; 'mlpipe run FILE' makes one"
        )
    return rows[-1]


def _by_id(workspace: Workspace, text: str) -> RunRow:
    try:
        return workspace.catalog.get_run(text)
    except NotFoundError:
        pass
    fitting = [row for row in workspace.catalog.list_runs() if row.id.startswith(text)] if text else []
    if not fitting:
        raise NotFoundError(
            f"workspace '{workspace.name}' has no run '{text}'; give an id or its beginning as 'mlpipe runs' lists "
            "them, or 'last'"
        )
    if len(fitting) > 1:
        ids = ", ".join(row.id for row in fitting[:3])
        raise ParameterError(
            f"run '{text}' could be {len(fitting)} runs ({ids}{', ...' if len(fitting) > 3 else ''}); give more of it"
        )
    if len(text) < SHORTEST_PREFIX:
        raise ParameterError(
            f"run '{text}': give at least {SHORTEST_PREFIX} characters of the id, here {fitting[0].id}"
        )
    return fitting[0]
