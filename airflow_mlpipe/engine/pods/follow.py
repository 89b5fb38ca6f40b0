"""Following the pod of a step, or its pods, from their making to their end, or ending them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_mlpipe.engine.pods.asking import is_passing
from airflow_mlpipe.engine.pods.joint import awaited, has_failed, is_over
from airflow_mlpipe.engine.pods.log import PodLog
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
        dropped: whether it was ended because another node of its step has failed.
        others: of the first of several nodes: how the others have ended.
    """

    view: PodView | None = None
    vanished: bool = False
    stopped: str | None = None
    timed_out: bool = False
    error: MlpipeError | None = None
    dropped: bool = False
    events: list[str] = field(default_factory=list)
    others: list[Followed] = field(default_factory=list)

    @property
    def cut_short(self) -> bool:
        """Whether the pod was ended here."""
        return self.stopped is not None or self.timed_out or self.error is not None or self.dropped

    @property
    def failed(self) -> bool:
        """Whether its step cannot succeed any more, and that through no other pod."""
        if self.dropped:
            return False
        return self.vanished or self.error is not None or (self.view is not None and has_failed(self.view))

    @property
    def done(self) -> bool:
        """Whether nothing more is to be seen of it."""
        return self.vanished or self.cut_short or (self.view is not None and is_over(self.view))

    @property
    def nodes(self) -> list[Followed]:
        """It and the others."""
        return [self, *self.others]


@dataclass(slots=True)
class _Node:
    """A pod that is followed, with what is known of it."""

    tried: Tried
    log: PodLog
    followed: Followed
    following: bool = False

    def take(self, seen: Any, waits: Waits) -> None:
        """Take note of a look at the pod; `seen` is None if it is gone."""
        if seen is None:
            self.followed.vanished = True
            return
        self.followed.view = view = view_of(seen)
        if not self.following and (view.running or view.base is not None):
            if self.tried.again and view.started_at is not None:
                waits.add({"run": (datetime.now(UTC) - view.started_at).total_seconds()})
            self.following = True
            self.log.start()


def follow(tried: Tried, spent_s: Mapping[str, float] | None = None) -> Followed:
    """Wait until a step's pods have ended and their logs are read, or end them. One that fails ends the others.

    Args:
        tried: the try.
        spent_s: how long whoever waited before has waited for what.

    Raises:
        UnreachableError: if the cluster does not answer any more; the pods go on, and a later try finds them.
        ServiceError: if a pod does not end.
        BaseException: whatever interrupts the wait (a signal handler, ``stop``), after the pods were deleted.
    """
    news = threading.Event()
    with ExitStack() as stack:
        nodes = [_Node(each, stack.enter_context(_printing(each, news)), Followed()) for each in tried.nodes]
        try:
            _wait(nodes, news, spent_s or {})
        except UnreachableError:
            raise
        except BaseException:
            for node in nodes:
                tried.pods.delete(node.tried.pod)
            raise
        short = [node for node in nodes if node.followed.cut_short]
        for node in short:
            node.followed.events = tried.pods.events(node.tried.pod)
            tried.pods.delete(node.tried.pod)
        for node in short:
            tried.pods.end(node.tried.pod)
        for node in nodes:
            if not node.log.finish(_LOG_WITHIN_S):
                _log.warning("pod '%s': the end of its log could not be read", node.tried.pod.metadata.name)
    first, *others = (node.followed for node in nodes)
    first.others = others
    return first


def _wait(nodes: Sequence[_Node], news: threading.Event, spent_s: Mapping[str, float]) -> None:
    tried = nodes[0].tried
    order, plan = tried.order, tried.plan
    waits = Waits.of(plan.target.name, order.step.name, plan.settings, order.step.timeout_s)
    waits.add(spent_s)
    began_s = looked_s = heard_s = time.monotonic()
    pause_s = 0.0
    while True:
        reason = order.stop()
        if reason is not None:
            for node in nodes:
                node.followed.stopped = reason
            return
        now_s = time.monotonic()
        if news.is_set() or now_s - looked_s >= pause_s:
            news.clear()
            looked_s = now_s
            pause_s = next(pause for age, pause in _LOOKS if now_s - began_s < age)
            try:
                _look([node for node in nodes if not node.followed.done], waits)
            except (ApiException, HTTPError, OSError) as error:
                _check_patience(tried, error, now_s - heard_s)
                news.wait(TICK_S)
                continue
            heard_s = now_s
            _check(nodes, waits)
            if all(node.followed.done for node in nodes):
                return
        news.wait(TICK_S)


def _look(nodes: Sequence[_Node], waits: Waits) -> None:
    pods = nodes[0].tried.pods
    for node, seen in zip(nodes, pods.look_at([node.tried.pod for node in nodes]), strict=True):
        node.take(seen, waits)


def _check(nodes: Sequence[_Node], waits: Waits) -> None:
    """End the nodes of a step of which one has failed, or whose time is over."""
    if any(node.followed.failed for node in nodes):
        _drop(nodes)
    going = [(node, node.followed.view) for node in nodes if not node.followed.done and node.followed.view is not None]
    if not going:
        return
    slowest = awaited([view for _, view in going])
    try:
        waits.check(slowest, time.monotonic())
    except MlpipeError as error:
        node = next(node for node, view in going if view is slowest)
        where = f" ({node.tried.called})" if len(nodes) > 1 else ""
        node.followed.error = type(error)(f"{error.message}{where}")
        _drop(nodes)
    if waits.timed_out:
        for node, _ in going:
            node.followed.timed_out = True


def _drop(nodes: Sequence[_Node]) -> None:
    """End those that go on and have not failed; what has failed may still tell why."""
    for node in nodes:
        if not node.followed.done and not node.followed.failed:
            node.tried.pods.delete(node.tried.pod)
            node.followed.dropped = True


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
    on_line, before = tried.order.on_line, f"node {tried.place.node}: " if tried.place.node else ""
    with tried.job.stdout.open("ab", buffering=0) as file:

        def take(line: bytes) -> None:
            file.write(line + b"\n")
            if on_line is not None:
                on_line("stdout", before + line.decode("utf-8", "backslashreplace"))

        log = PodLog(partial(tried.pods.read_log, tried.pod, BASE), take, news.set)
        try:
            yield log
        finally:
            log.give_up()
