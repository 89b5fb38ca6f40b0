"""The one task of a run that decides, for the whole graph at once, what is reused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, SkipMixin
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlpipe.errors import MissingDataError, MlpipeError

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReuseSensor(BaseSensorOperator, SkipMixin):
    """Waits until the data a pipeline reads exists, then plans the run and skips every step that is reused.

    Args:
        spec_digest: identity of the spec the DAG was built from; a run of another one is refused.
        workspace: the ``.mlpipe`` folder, or None for the one named by ``MLPIPE_WORKSPACE``.
        wait_for_inputs_s: how long to wait for data, in seconds; 0 looks once.
    """

    # User text is never a template, and no argument names a file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()

    # Makes "Clear" of a reused step in the UI put it back to skipped instead of running it.
    _can_skip_downstream = True

    def __init__(
        self, *, spec_digest: str, workspace: str | None = None, wait_for_inputs_s: float = 0.0, **kwargs: Any
    ) -> None:
        kwargs.setdefault("poke_interval", 2.0)
        kwargs.setdefault("mode", "reschedule" if wait_for_inputs_s else "poke")
        kwargs.setdefault("timeout", wait_for_inputs_s + 3600)
        super().__init__(**kwargs)
        self.spec_digest = spec_digest
        self.workspace = workspace
        self.wait_for_inputs_s = wait_for_inputs_s

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Plan the run. False while data is missing and there is time left to wait for it."""
        # Here, not above: a parse reads the spec alone and needs neither catalog nor storage.
        from airflow_mlpipe.engine.room import room_of

        run = room_of(self.workspace).run_of(context["dag_run"], self.spec_digest)
        try:
            self._reused = run.plan()
        except MissingDataError as error:
            began = context["dag_run"].start_date
            if began is not None and time.time() - began.timestamp() < self.wait_for_inputs_s:
                self.log.info("%s; looking again in %g s", error, self.poke_interval)
                return False
            run.fail(str(error))
            raise AirflowFailException(str(error)) from None
        except MlpipeError as error:
            run.fail(error.message)
            raise AirflowFailException(error.message) from None
        return True

    def execute(self, context: Context) -> None:
        """Plan, then skip the steps that are reused."""
        super().execute(context)
        if self._reused:
            dag = context["dag"]
            # Raises; nothing after this line runs.
            self.skip(context["ti"], [dag.get_task(step_id) for step_id in self._reused])
