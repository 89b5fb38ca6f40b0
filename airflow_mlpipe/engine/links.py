"""Links beside a step's task in Airflow's UI, and the pages they lead to: outputs, snapshot, explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from airflow_mlpipe.engine.operators import StepOperator

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey

URL_PREFIX = "/mlpipe"


class _StepLink(BaseOperatorLink):
    """A link to one of the pages of a step. Made by the API server, so that a task that was skipped has it too."""

    operators: ClassVar[list[type]] = [StepOperator]
    page: ClassVar[str]

    @property
    def name(self) -> str:
        """The text on the button."""
        return self.page.capitalize()

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the page."""
        below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        dag_id, run_id, task_id = (quote(text, safe="") for text in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        return f"{below}{URL_PREFIX}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{self.page}"


class OutputsLink(_StepLink):
    """What the step made, and where it lies."""

    page = "outputs"


class SnapshotLink(_StepLink):
    """The code that the step ran with."""

    page = "snapshot"


class ExplanationLink(_StepLink):
    """Why it ran or was reused."""

    page = "explanation"


class LazyApp:
    """The pages as an ASGI application that is built at the first request: Airflow loads plugins into every process."""

    def __init__(self) -> None:
        """Build nothing yet."""
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            from airflow_mlpipe.engine.pages import make_app

            self._app = make_app()
        await self._app(scope, receive, send)
