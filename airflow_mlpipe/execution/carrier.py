"""How a try of a step is carried out: on this machine, in a container, or in a pod.

The engine opens a try, hands an :class:`Order` to the carrier of the step's compute target, and commits what comes
back. Whatever the carrier is, a try ends in the same way: with what it left, or with an error of this package.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from airflow_mlpipe.execution.collect import Collected
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput
from airflow_mlpipe.execution.kept import Kept
from airflow_mlpipe.execution.launch import Exit
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.step import StepSpec

_log = logging.getLogger(__name__)


def _never() -> None:
    return None


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One try of a step, to be carried out.

    Attributes:
        step: the step.
        run: which run it belongs to.
        inputs: what is known of each input port.
        number: of this try, from 1.
        resumed: whether this try has begun before and given its slot back since.
        stop: asked every 0.25 s; an answer other than None is the reason to end the step.
        on_line: given each line that the step prints, with ``stdout`` or ``stderr``.
        now: the clock, aware UTC.
    """

    step: StepSpec
    run: RunIdentity
    inputs: Mapping[str, StagedInput]
    number: int = 1
    resumed: bool = False
    stop: Callable[[], str | None] = _never
    on_line: Callable[[str, str], None] | None = None
    now: Callable[[], datetime] = _now

    def say(self, line: str) -> None:
        """Write what is done for the step before it starts, a line, into its log and into that of this process."""
        _log.info("step '%s': %s", self.step.name, line)
        if self.on_line is not None:
            self.on_line("stdout", line)


class StepPaused(Exception):
    """A try has given its slot back and goes on later: it is neither done nor failed, and what it wrote stays.

    Attributes:
        how: what tells the engine when it goes on.
        asked_again_in_s: when it goes on, in seconds, if nobody waits for it meanwhile; else 0.
    """

    def __init__(self, reason: str, how: BaseException, asked_again_in_s: float = 0.0) -> None:
        super().__init__(reason)
        self.how = how
        self.asked_again_in_s = asked_again_in_s


class Carried(Protocol):
    """A try that has ended well, until its result is committed.

    Attributes:
        exit: how its process ended.
        kept: what it left beside its outputs.
        collected: its committed outputs.
    """

    exit: Exit
    kept: Kept
    collected: Collected

    def give_up(self, error: BaseException) -> None:
        """Keep what tells of the try: its result could not be committed because of `error`."""

    def discard(self) -> None:
        """Remove what is of no use any more, once the result is committed."""


class Carrier(Protocol):
    """Carries out tries of steps."""

    def carry(self, order: Order, site: Site) -> Carried:
        """Run a step once and collect what it leaves.

        If this raises, what a failed try leaves has been noted (:func:`note_failure`), and nothing of it runs any more.

        Raises:
            StepPaused: if it goes on later; then the order that it goes on with is marked as resumed.
            StepStoppedError: if it was ended on request.
            ExecutionError: if it failed; see :func:`~airflow_mlpipe.execution.collect.collect`.
            UsageError: if it cannot be staged or started as it is written.
            StorageError: if data is missing or cannot be written.
        """


@runtime_checkable
class Detachable(Carrier, Protocol):
    """A carrier whose tries go on without whoever has begun them.

    Attributes:
        detaches: whether they are to.
    """

    @property
    def detaches(self) -> bool:
        """Whether its tries are to be waited for without a worker's slot."""

    def detach(self, order: Order, site: Site) -> dict[str, Any]:
        """Begin a try and return what finds it again, as JSON. Errors are those of :meth:`Carrier.carry`."""

    def attach(self, order: Order, site: Site, found_by: Mapping[str, Any], waited: Mapping[str, Any]) -> Carried:
        """Come back to a try that has ended, or is to be ended.

        Args:
            order: the try, as it was begun.
            site: the workspace.
            found_by: what :meth:`detach` returned.
            waited: what whoever has waited for it knows, as JSON.

        Errors are those of :meth:`Carrier.carry`.
        """


def note_failure(order: Order, site: Site, kept: Kept, exit: Exit | None) -> None:
    """Write down what a try left that gives no result: for its run, and for whoever looks into it.

    Raises:
        ServiceError: if the catalog cannot be reached.
    """
    site.catalog.add_written(order.run.run_id, kept.parent_written)
    site.catalog.update_step(
        order.run.run_id,
        order.step.id,
        of_try=order.number,
        written=kept.written.model_dump(mode="json"),
        exit_code=None if exit is None else exit.code,
    )
