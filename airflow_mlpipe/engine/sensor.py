"""The one task of a run that decides, for the whole graph at once, what is reused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, SkipMixin
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlpipe.engine.names import REUSE_CHECK
from airflow_mlpipe.errors import MissingDataError, MlpipeError, ServiceError, StorageError, UsageError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlpipe.engine.adopt import Publish
    from airflow_mlpipe.engine.runs import EngineRun


class ReuseSensor(BaseSensorOperator, SkipMixin):
    """Waits until the data a pipeline reads exists, then plans the run and skips every step that is reused.

    Args:
        spec_digest: identity of the spec the DAG was built from; a run of another one is refused.
        publish: for a DAG file: packs and stores the pipeline when a run starts, and returns the digest of its spec.
        workspace: the ``.mlpipe`` folder, or None for the one named by ``MLPIPE_WORKSPACE``.
        wait_for_inputs_s: how long to wait for data, in seconds; 0 looks once.
    """

    # User text is never a template, and no argument names a file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()

    # A copy of the DAG needs no copy of the pipeline.
    shallow_copy_attrs: Sequence[str] = ("publish",)

    # Makes "Clear" of a reused step in the UI put it back to skipped instead of running it.
    _can_skip_downstream = True

    def __init__(
        self,
        *,
        spec_digest: str | None = None,
        publish: Publish | None = None,
        workspace: str | None = None,
        wait_for_inputs_s: float = 0.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("poke_interval", 2.0)
        kwargs.setdefault("mode", "reschedule" if wait_for_inputs_s else "poke")
        kwargs.setdefault("timeout", wait_for_inputs_s + 3600)
        # For a catalog or a store that is out of reach for a moment; a user's mistake is not tried again.
        kwargs.setdefault("retries", 2)
        kwargs.setdefault("retry_delay", timedelta(seconds=5))
        super().__init__(**kwargs)
        self.spec_digest = spec_digest
        self.publish = publish
        self.workspace = workspace
        self.wait_for_inputs_s = wait_for_inputs_s

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """Return what Airflow keeps of it: the end of a DAG run is written down where its DAG file is not at hand."""
        return super().get_serialized_fields() | {"workspace"}

    @property
    def part(self) -> str:
        """What the task ids of its pipeline begin with, in this DAG."""
        return self.task_id.removesuffix(REUSE_CHECK)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Plan the run. False while data is missing and there is time left to wait for it."""
        try:
            run = self._run(context)
        except MlpipeError as error:
            self.log.error("%s", error.message)
            kind = AirflowFailException if isinstance(error, UsageError) else AirflowException
            raise kind(error.message.splitlines()[0]) from None
        try:
            self._reused = run.plan()
            run.end_if_complete()
        except MissingDataError as error:
            began = context["dag_run"].start_date
            if began is not None and time.time() - began.timestamp() < self.wait_for_inputs_s:
                self.log.info("%s; looking again in %g s", error, self.poke_interval)
                return False
            run.fail(str(error))
            raise AirflowFailException(str(error)) from None
        except MlpipeError as error:
            ti = context["ti"]
            if isinstance(error, (StorageError, ServiceError)) and ti.try_number <= ti.max_tries:
                self.log.error("%s", error.message)
                raise AirflowException(error.message.splitlines()[0]) from None
            run.fail(error.message)
            raise AirflowFailException(error.message) from None
        return True

    def execute(self, context: Context) -> None:
        """Plan, then skip the steps that are reused."""
        super().execute(context)
        tasks = context["dag"].task_dict
        reused = [tasks[task_id] for step_id in self._reused if (task_id := f"{self.part}{step_id}") in tasks]
        if reused:
            # Raises; nothing after this line runs.
            self.skip(context["ti"], reused)

    def _run(self, context: Context) -> EngineRun:
        # Here, not above: a parse reads the spec alone and needs neither catalog nor storage.
        from airflow_mlpipe.engine.adopt import Share
        from airflow_mlpipe.engine.connections import ask_airflow
        from airflow_mlpipe.engine.room import room_of

        ask_airflow()
        dag_run, declared = context["dag_run"], context["dag"].params

        def unstarted() -> list[str]:
            states = context["ti"].get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
            return [task_id.removeprefix(self.part) for task_id, state in states.items() if state is None]

        share = Share(room=room_of(self.workspace), part=self.part, spec_digest=self.spec_digest)
        params = {name: context["params"][name] for name in declared}
        try:
            return share.begin(dag_run, params, self.publish, unstarted)
        except UsageError as error:
            share.refuse(dag_run, error.message)
            raise
