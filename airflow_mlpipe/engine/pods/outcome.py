"""From the end of a pod to the step's committed outputs, or to the reason why there are none."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlpipe.engine.pods.nodes import check_references, kept_together, outputs_of, to_blame
from airflow_mlpipe.engine.pods.spec import COLLECT, STAGE, PodPlan
from airflow_mlpipe.engine.pods.view import Ended
from airflow_mlpipe.errors import (
    ExecutionError,
    MissingDataError,
    MlpipeError,
    StepFailedError,
)
from airflow_mlpipe.execution.carrier import Order, note_failure
from airflow_mlpipe.execution.collect import Collected, changed_inputs, check_end, summed_up
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.kept import Kept, keep_printed
from airflow_mlpipe.execution.launch import Exit
from airflow_mlpipe.execution.pod.collecting import read_answer
from airflow_mlpipe.execution.pod.order import OrderPlace, PodAnswer
from airflow_mlpipe.execution.references import release
from airflow_mlpipe.execution.report import last_lines, traceback_line
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.storage.datastore import LocalStore, check_files
from airflow_mlpipe.storage.outputs import sweep_attempt

if TYPE_CHECKING:
    from airflow_mlpipe.engine.pods.follow import Followed
    from airflow_mlpipe.engine.pods.operator import StepPod

_log = logging.getLogger(__name__)

_SIGNALS = frozenset(128 + int(each) for each in (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM))
_NOTHING = PodAnswer(whole=False)


@dataclass(frozen=True, slots=True)
class Tried:
    """A try that is, or was, carried out in a pod.

    Attributes:
        order: the try.
        site: the workspace.
        plan: what its pod is made of.
        pods: what makes and ends pods of the step run.
        pod: its pod, as it was made.
        place: where its order is, and its answer comes.
        work: folder on this machine, for what it prints.
        again: whether the pod is one of an earlier try.
        others: the same of the other nodes, if the step has several; this is then the first one.
    """

    order: Order
    site: Site
    plan: PodPlan
    pods: StepPod
    pod: Any
    place: OrderPlace
    work: Path
    again: bool = False
    others: tuple[Tried, ...] = ()

    @property
    def nodes(self) -> tuple[Tried, ...]:
        """It and the others."""
        return (self, *self.others)

    @property
    def called(self) -> str:
        """Which node of several it is, and which ranks that has."""
        ranks = self.plan.order.ranks_of(self.place.node)
        shown = [str(rank) for rank in ranks] if len(ranks) < 3 else [f"{ranks[0]} to {ranks[-1]}"]
        return f"node {self.place.node}, rank{'s' if len(ranks) > 1 else ''} {' and '.join(shown)}"

    @property
    def job(self) -> StepJob:
        """The try, with what is of it on this machine."""
        return self.plan.order.job(self.work)


@dataclass(slots=True)
class PodCarried:
    """A try in a pod that has ended well; see :class:`~airflow_mlpipe.execution.carrier.Carried`."""

    tried: Tried
    exit: Exit
    kept: Kept
    collected: Collected

    def give_up(self, error: BaseException) -> None:
        """Keep what tells of the try."""
        _note(self.tried, self.kept, self.exit)
        clear(self.tried, failed=True)

    def discard(self) -> None:
        """Remove the pod, its documents and what is of the try on this machine."""
        clear(self.tried, failed=False)
        shutil.rmtree(self.tried.work.parent, ignore_errors=True)


def finish(tried: Tried, followed: Followed) -> PodCarried:
    """Return what a pod has left, once it has ended.

    Errors are those of :meth:`airflow_mlpipe.execution.carrier.Carrier.carry`.
    """
    answers, kept, exit, worst = [_NOTHING] * len(tried.nodes), None, None, 0
    try:
        answers = [_answer(each) for each in tried.nodes]
        worst = to_blame(followed, answers)
        its = tried.nodes[worst], followed.nodes[worst], answers[worst]
        exit = _exit(*its[:2])
        kept = _kept(tried, answers)
        if exit is None:
            _check_pod(*its)
            raise ExecutionError(f"step '{tried.order.step.name}': {_whose(its[0])} has ended without running it")
        _check(*its, kept, exit)
        exit = _of_all(exit, tried, followed)
        collected = _collected(tried, answers, kept, exit)
    except BaseException as error:
        if isinstance(error, MlpipeError):
            _tell(tried.nodes[worst], followed.nodes[worst])
        with suppress(MlpipeError):
            kept = kept or _kept(tried, answers)
            _note(tried, kept, exit)
        clear(tried, failed=True)
        raise
    return PodCarried(tried, exit, kept, collected)


def _kept(tried: Tried, answers: Sequence[PodAnswer]) -> Kept:
    kept = kept_together(tried, answers) if tried.others else answers[0].kept()
    return keep_printed(kept, tried.job, tried.site.default)


def clear(tried: Tried, *, failed: bool) -> None:
    """Remove the pods and their documents; what cannot be removed is only logged."""
    keeps = failed and tried.plan.settings.keep_failed_pods
    paths = [tried.place.order]
    for each in tried.nodes:
        try:
            (tried.pods.keep if keeps else tried.pods.delete)(each.pod)
        except MlpipeError as error:
            _log.warning("step '%s': its pod is still there: %s", tried.order.step.name, error.message)
        paths += [each.place.answer, *([each.place.meeting] if tried.others else ())]
    for path in paths:
        with suppress(MlpipeError):
            tried.site.default.remove(path)
    if failed:
        sweep(tried.order, tried.site, tried.plan)


def _answer(tried: Tried) -> PodAnswer:
    with suppress(MissingDataError):
        return read_answer(tried.place, tried.site.default)
    return _NOTHING


def _exit(tried: Tried, followed: Followed) -> Exit | None:
    """Return how the step's process has ended; None if it never began or nobody knows."""
    view, now = followed.view, tried.order.now()
    if view is None or view.base is None:
        if not followed.cut_short:
            return None
        code, started_at, ended_at = -int(signal.SIGTERM), None if view is None else view.started_at, now
    else:
        code = 128 - view.base.code if view.base.code in _SIGNALS else view.base.code
        started_at, ended_at = view.base.started_at, view.base.ended_at or now
    return Exit(
        code=code,
        started_at=started_at or ended_at,
        ended_at=ended_at,
        stopped=followed.stopped,
        timed_out=followed.timed_out,
    )


def _of_all(exit: Exit, tried: Tried, followed: Followed) -> Exit:
    """Return the end of a step that has succeeded, from its first node's beginning to its last node's end."""
    ends = [each for pair in zip(tried.nodes, followed.nodes, strict=True) if (each := _exit(*pair)) is not None]
    return replace(exit, started_at=min(each.started_at for each in ends), ended_at=max(each.ended_at for each in ends))


def _check(tried: Tried, followed: Followed, answer: PodAnswer, kept: Kept, exit: Exit) -> None:
    """Check that a pod and its step have ended well; of several nodes the one that is to blame."""
    _check_pod(tried, followed, answer)
    if exit.stopped is None and not exit.timed_out and exit.code != 0:
        _raise_failed(tried, followed, answer, kept, exit)
    check_end(tried.job, exit, kept)


def _collected(tried: Tried, answers: Sequence[PodAnswer], kept: Kept, exit: Exit) -> Collected:
    """Check that the step did what it promises, and give what it wrote to DataReferences its place."""
    step, site = tried.order.step, tried.site
    for each, answer in zip(tried.nodes, answers, strict=True):
        if not answer.whole:
            raise ExecutionError(
                f"step '{step.name}' ended well, but {_whose(each)} has left no answer: its outputs were not collected"
            )
    if not tried.others and answers[0].error is not None:
        raise answers[0].error.error()
    references = {name for answer in answers for name in answer.references}
    changed = changed_inputs(tried.job, site.store, site.content, site.index)
    names = {port.name for port in changed}
    changed += [port for port in step.inputs if port.name in references and port.name not in names]
    # First of all: an upload that another node has hindered says less.
    check_references(answers, site.default)
    outputs = outputs_of(tried, answers)
    for name in _reference_stores(tried, references):
        opened = check_files(site.store(name))
        assert not isinstance(opened, LocalStore)
        release(opened, tried.plan.order.aside)
    return summed_up(exit, kept, outputs, changed)


def _check_pod(tried: Tried, followed: Followed, answer: PodAnswer) -> None:
    """Raise if it was the pod that ended, or was ended, and not the step."""
    step, view = tried.order.step, followed.view
    if followed.error is not None:
        raise followed.error
    if followed.stopped is not None or followed.timed_out:
        return
    if followed.vanished or view is None:
        raise ExecutionError(
            f"step '{step.name}': {_whose(tried)} is gone; it was deleted, or its node was lost; try again"
        )
    if view.staged is not None and view.staged.code != 0:
        raise answer.error.error() if answer.error is not None else ExecutionError(_unstaged(tried, view.staged))
    if view.lost is not None:
        raise ExecutionError(f"step '{step.name}': {_whose(tried)} was ended before its time: {view.lost}")


def _unstaged(tried: Tried, staged: Ended) -> str:
    lines = tried.pods.tail(tried.pod, STAGE) or staged.message.splitlines() or [staged.reason]
    return f"step '{tried.order.step.name}' did not get its inputs: {lines[-1]}"


def _raise_failed(tried: Tried, followed: Followed, answer: PodAnswer, kept: Kept, exit: Exit) -> NoReturn:
    view, job = followed.view, tried.job
    assert view is not None and view.base is not None
    memory = tried.plan.resources.memory_bytes
    hint = None
    if view.base.reason == "OOMKilled":
        limit = "" if memory is None else f" of {memory:,} bytes"
        hint = f"it took more memory than its limit{limit} (OOMKilled)"
    elif view.base.reason in ("StartError", "ContainerCannotRun") or (view.base.message and exit.code > 125):
        hint = " ".join(view.base.message.split()) or view.base.reason
    if tried.plan.order.nodes > 1:
        hint = f"{_whose(tried)}: {hint or answer.failed_rank or 'it failed first, and the others were ended'}"
    raise StepFailedError(
        tried.order.step.name,
        exit.code,
        log_path=kept.log,
        last_lines=last_lines(job.stdout, job.stderr) if not job.stderr.stat().st_size else (),
        traceback_line=traceback_line(job.stdout, Path(tried.plan.order.work) / "code"),
        hint=hint,
    )


def _reference_stores(tried: Tried, references: Collection[str]) -> list[str]:
    ports = [port for port in tried.order.step.inputs if port.name in references]
    return sorted({port.bound.datastore for port in ports if isinstance(port.bound, DatastorePath)})


def _tell(tried: Tried, followed: Followed) -> None:
    """Write what the pod and its two ends say into the task's log."""
    name = tried.order.step.name
    for container in (STAGE, COLLECT):
        for line in [] if followed.cut_short or followed.vanished else tried.pods.tail(tried.pod, container):
            _log.error("step '%s': %s: %s", name, container, line)
    for line in followed.events or tried.pods.events(tried.pod):
        _log.error("step '%s': event of its pod: %s", name, line)


def _note(tried: Tried, kept: Kept, exit: Exit | None) -> None:
    try:
        note_failure(tried.order, tried.site, kept, exit)
    except MlpipeError as trouble:
        _log.warning("step '%s': what it wrote could not be kept: %s", tried.order.step.name, trouble.message)


def sweep(order: Order, site: Site, plan: PodPlan) -> None:
    """Remove the outputs that were committed for nothing, and what was laid aside."""
    for name in {port.datastore for port in order.step.outputs}:
        with suppress(MlpipeError):
            sweep_attempt(order.run.step_run_id, check_files(site.store(name)))
    for port in order.step.inputs:
        if isinstance(port.bound, DatastorePath):
            with suppress(MlpipeError):
                opened = check_files(site.store(port.bound.datastore))
                if not isinstance(opened, LocalStore):
                    opened.remove_tree(plan.order.aside)


def _whose(tried: Tried) -> str:
    metadata = tried.pod.metadata
    node = f" ({tried.called})" if tried.plan.order.nodes > 1 else ""
    return f"pod '{metadata.name}' of namespace '{metadata.namespace}'{node}"
