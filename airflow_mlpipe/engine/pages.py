"""Pages about a step for people who look at its task in Airflow's UI. Plain HTML without scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_authenticated
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from airflow_mlpipe.catalog.rows import StepRow
from airflow_mlpipe.engine.adopt import Share
from airflow_mlpipe.engine.airflow_private.lookup import find_dag_run
from airflow_mlpipe.engine.names import REUSE_CHECK
from airflow_mlpipe.engine.room import Room, room_of
from airflow_mlpipe.errors import MlpipeError, NotFoundError
from airflow_mlpipe.model.digest import short
from airflow_mlpipe.model.step import StepSpec

_HEADERS = {
    # Nothing on these pages may run: what they show was written by users.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
_STYLE = "body{font:15px sans-serif;margin:2em}td,th{text-align:left;padding:.2em 1.5em .2em 0}code,pre{font-size:13px}"


def make_app() -> FastAPI:
    """Return the application. All of it asks who is there; each page asks whether they may see the task."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(requires_authenticated())])
    may_see = Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))

    @app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{page}", dependencies=[may_see])
    def show(dag_id: str, run_id: str, task_id: str, page: str) -> HTMLResponse:
        if page not in _PAGES:
            raise HTTPException(404, f"no page '{page}'; there are {', '.join(_PAGES)}")
        try:
            room, step, row = _find(dag_id, run_id, task_id)
            body = _PAGES[page](room, step, row)
        except NotFoundError as error:
            raise HTTPException(404, error.message) from None
        except MlpipeError as error:
            raise HTTPException(503, error.message) from None
        title = _text(f"{page} of {row.name}")
        head = f"<!doctype html><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        return HTMLResponse(head + body, headers=_HEADERS)

    return app


def _find(dag_id: str, run_id: str, task_id: str) -> tuple[Room, StepSpec, StepRow]:
    """Return the step that a task stands for."""
    dag_run, sensors = find_dag_run(dag_id, run_id)
    parts = {sensor.task_id.removesuffix(REUSE_CHECK): sensor for sensor in sensors}
    part = max((part for part in parts if task_id.startswith(part)), key=len, default=None)
    if dag_run is None or part is None:
        raise NotFoundError(f"task '{task_id}' of DAG run '{run_id}' of '{dag_id}' is no step of a pipeline")
    # A field that is None is no part of the DAG that Airflow keeps: then it is the workspace of this machine.
    room = room_of(getattr(parts[part], "workspace", None), patience_s=0.0)
    run = room.catalog.get_run(Share(room=room, part=part).run_id(dag_run))
    step_id = task_id.removeprefix(part)
    row = room.catalog.step(run.id, step_id)
    return room, room.spec(run.spec_digest).step_by_id[step_id], row


def _outputs(room: Room, step: StepSpec, row: StepRow) -> str:
    if row.result_id is None:
        return f"<p>It has none: {_text(row.status)}. {_text(row.error or row.reason)}</p>"
    result = room.catalog.get_result(row.result_id)
    lines = [(o.name, o.datastore, o.path, f"{o.size_bytes:,} bytes", short(o.digest)) for o in result.outputs]
    return _table(("output", "datastore", "path", "size", "content"), lines)


def _snapshot(room: Room, step: StepSpec, row: StepRow) -> str:
    if step.snapshot is None:
        return "<p>It has no source directory.</p>"
    tree = room.facts.trees(step.code or step.snapshot) or room.facts.trees(step.snapshot)
    intro = f"<p>Snapshot <code>{_text(short(step.snapshot))}</code>"
    if tree is None:
        return f"{intro}; the names of its files are not kept.</p>"
    lines = [(entry.path, short(entry.digest) if entry.digest else "") for entry in tree.entries]
    return f"{intro}, the files that decide about reuse:</p>{_table(('file', 'content'), lines)}"


def _explanation(room: Room, step: StepSpec, row: StepRow) -> str:
    facts = [("status", row.status), ("why", row.reason), ("key", short(row.fingerprint) if row.fingerprint else "")]
    if row.reused_from:
        facts.append(("reused from run", row.reused_from))
    if row.error:
        facts.append(("error", row.error))
    parts = json.dumps(row.components or {}, indent=2, ensure_ascii=False)
    return f"{_table(('', ''), facts)}<h2>What the key is made of</h2><pre>{_text(parts)}</pre>"


_PAGES = {"outputs": _outputs, "snapshot": _snapshot, "explanation": _explanation}


def _table(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><tr>{top}</tr>{rows}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
