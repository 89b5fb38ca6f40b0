"""Why a step ran or was reused, told for one step of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.model.digest import Digest, short
from airflow_mlpipe.model.result import StepResult, TreeManifest
from airflow_mlpipe.reuse.explain import differences, nearest

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import StepRow
    from airflow_mlpipe.sdk.step_run import StepRun
    from airflow_mlpipe.sdk.workspace import Workspace

COMPARED = 20
"""How many earlier results of the step are looked at for the nearest one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step did what it did. ``print()`` shows it.

    Attributes:
        step: its name.
        status: see ``catalog.rows.StepStatus``.
        reason: the reason in one line.
        differences: what differs from the nearest earlier result, the most telling first.
        compared_with: id of the run that computed that result, or None if there is none.
        key: the step's key, or None if it was never known.
        components: the named parts of the key, or None.
    """

    step: str
    status: str
    reason: str
    differences: tuple[str, ...]
    compared_with: str | None
    key: Digest | None
    components: dict[str, object] | None

    def __str__(self) -> str:
        lines = [f"step '{self.step}': {self.status}", f"  because {self.reason or 'nothing was decided for it'}"]
        if self.compared_with is not None and self.status != "reused":
            lines.append(f"  against the nearest earlier result, of run {self.compared_with}:")
            lines += [f"    {line}" for line in self.differences or ("nothing differs",)]
        if self.key is not None:
            lines.append(f"  key {short(self.key)}")
        return "\n".join(lines)


def explain_step(step: StepRun) -> Explanation:
    """Compare a step with the nearest result that was there before its run."""
    row, workspace = step.record, step.experiment.workspace
    run = step.parent.record
    earlier = [
        result
        for result in workspace.catalog.nearest(run.pipeline, row.name, COMPARED)
        if result.run_id != row.run_id and result.ended_at <= run.created_at
    ]
    components = row.components
    closest = nearest(components, earlier) if components is not None else None
    if row.status == "reused" and row.result_id is not None:
        closest = workspace.catalog.get_result(row.result_id)
    return Explanation(
        step=row.name,
        status=row.status,
        reason=row.reason,
        differences=_differences(workspace, row, closest),
        compared_with=closest.run_id if closest is not None else None,
        key=row.fingerprint,
        components=components,
    )


def _differences(workspace: Workspace, row: StepRow, other: StepResult | None) -> tuple[str, ...]:
    if other is None or row.components is None:
        return ()
    return tuple(differences(row.components, other.components, lambda digest: manifest(workspace, digest)))


def manifest(workspace: Workspace, digest: Digest) -> TreeManifest | None:
    """Return the manifest of a tree, or None if it is not kept."""
    from airflow_mlpipe.sdk.submit import facts_of

    return facts_of(workspace).trees(digest)
