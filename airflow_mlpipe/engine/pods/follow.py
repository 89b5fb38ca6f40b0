"""Following a pod from its making to its end, or ending it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_mlpipe.engine.pods.log import PodLog
from airflow_mlpipe.engine.pods.operator import is_passing
from airflow_mlpipe.engine.pods.outcome import Tried
from airflow_mlpipe.engine.pods.spec import BASE
from airflow_mlpipe.engine.pods.view import PodView, view_of
from airflow_mlpipe.engine.pods.waits import Waits
from airflow_mlpipe.errors import MlpipeError, UnreachableError

_log = logging.getLogger(__name__)

TICK_S = 0.25
"""How often a reason to end the step is asked for."""

_LOOKS = ((60.0, 0.5), (600.0, 1.0), (float("inf"), 2.0))
"""How often the pod is looked at, in seconds, until it is so old."""

PATIENCE_S = 300.0
"""How long a cluster may not answer before its step is given up by whoever waits for it."""

_LOG_WITHIN_S = 60.0


@dataclass(slots=True)
class Followed:
    """How a pod has ended.

    Attributes:
        view: what was last seen of it; None if nothing was.
        vanished: whether it is gone although nobody here has deleted it.
        stopped: why it was ended on request, or None.
        timed_out: whether it was ended because the step's time was over.
        error: why it was ended before its time, or None.
    """

    view: PodView | None = None
    vanished: bool = False
    stopped: str | None = None
    timed_out: bool = False
    error: MlpipeError | None = None
    events: list[str] = field(default_factory=list)

    @property
    def cut_short(self) -> bool:
        """Whether the pod was ended here."""
        return self.stopped is not None or self.timed_out or self.error is not None


def follow(tried: Tried, spent_s: Mapping[str, float] | None = None) -> Followed:
    """Wait until a pod has ended and its log is read, or end it.

    Args:
        tried: the try.
        spent_s: how long whoever waited before has waited for what.

    Raises:
        UnreachableError: if the cluster does not answer any more; the pod goes on, and a later try finds it.
        ServiceError: if the pod does not end.
        BaseException: whatever interrupts the wait (a signal handler, ``stop``), after the pod was deleted.
    """
    news = threading.Event()
    with _printing(tried, news) as log:
        try:
            followed = _wait(tried, news, log, spent_s or {})
        except UnreachableError:
            raise
        except BaseException:
            tried.pods.delete(tried.pod)
            raise
        if followed.cut_short:
            followed.events = tried.pods.events(tried.pod)
            tried.pods.end(tried.pod)
        if not log.finish(_LOG_WITHIN_S):
            _log.warning("pod '%s': the end of its log could not be read", tried.pod.metadata.name)
    return followed


def _wait(tried: Tried, news: threading.Event, log: PodLog, spent_s: Mapping[str, float]) -> Followed:
    order, plan = tried.order, tried.plan
    waits = Waits.of(plan.target.name, order.step.name, plan.settings, order.step.timeout_s)
    waits.add(spent_s)
    followed = Followed()
    began_s = looked_s = heard_s = time.monotonic()
    following = False
    pause_s = 0.0
    while True:
        reason = order.stop()
        if reason is not None:
            followed.stopped = reason
            return followed
        now_s = time.monotonic()
        if news.is_set() or now_s - looked_s >= pause_s:
            news.clear()
            looked_s = now_s
            pause_s = next(pause for age, pause in _LOOKS if now_s - began_s < age)
            try:
                seen = tried.pods.look(tried.pod)
            except (ApiException, HTTPError, OSError) as error:
                _check_patience(tried, error, now_s - heard_s)
                news.wait(TICK_S)
                continue
            heard_s = now_s
            if seen is None:
                followed.vanished = True
                return followed
            followed.view = view = view_of(seen)
            if not following and (view.running or view.base is not None):
                if tried.again and view.started_at is not None:
                    waits.add({"run": (datetime.now(UTC) - view.started_at).total_seconds()})
                following = True
                log.start()
            if is_over(view):
                return followed
            try:
                waits.check(view, time.monotonic())
            except MlpipeError as error:
                followed.error = error
                return followed
            if waits.timed_out:
                followed.timed_out = True
                return followed
        news.wait(TICK_S)


def is_over(view: PodView) -> bool:
    """Whether nothing more comes of a pod."""
    if view.over:
        return True
    if view.staged is not None and view.staged.code != 0:
        return True
    return view.base is not None and view.collected is not None


def _check_patience(tried: Tried, error: Exception, silent_s: float) -> None:
    """Go on after a failed look, for a while."""
    if not is_passing(error):
        assert isinstance(error, ApiException)
        raise tried.pods.told("show a pod", error) from error
    if silent_s > PATIENCE_S:
        name, where = tried.pod.metadata.name, tried.pod.metadata.namespace
        raise UnreachableError(
            f"the cluster of connection '{tried.pods.kubernetes_conn_id}' has not answered for {silent_s:.0f} s "
            f"({error}); the step may go on in pod '{name}': another try finds it, and kubectl -n {where} delete pod "
            f"{name} ends it"
        ) from error


@contextmanager
def _printing(tried: Tried, news: threading.Event) -> Iterator[PodLog]:
    """Give what follows the step's log: into the file of the try, and to whoever wants its lines."""
    on_line = tried.order.on_line
    with tried.job.stdout.open("ab", buffering=0) as file:

        def take(line: bytes) -> None:
            file.write(line + b"\n")
            if on_line is not None:
                on_line("stdout", line.decode("utf-8", "backslashreplace"))

        log = PodLog(partial(tried.pods.read_log, tried.pod, BASE), take, news.set)
        try:
            yield log
        finally:
            log.give_up()
