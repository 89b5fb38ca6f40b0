"""``up``, ``status`` and ``env``."""

from __future__ import annotations

import shlex
from typing import Any

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import here
from airflow_mlpipe.cli.tables import Column, table
from airflow_mlpipe.errors import ConfigError, ParameterError
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_status import resources_text

_COMPUTE_COLUMNS = (
    Column("COMPUTE"), Column("TYPE"), Column("STEPS AT ONCE", right=True), Column("RUNS ON"), Column("EACH STEP"),
    Column("ENFORCED"),
)  # fmt: skip


def up(*, detach: bool, stop: bool, port: int | None) -> int:
    """Start, or stop, the Airflow of this workspace."""
    workspace = here()
    control = workspace.server
    if stop:
        if detach or port is not None:
            raise ParameterError("--stop goes alone; --detach and --port are for starting")
        ran = control.stop()
        OUT.say("the server has ended" if ran else f"workspace '{workspace.name}' has no running server")
        OUT.answer({"stopped": ran})
        return 0
    OUT.say(f"starting Airflow on workspace '{workspace.name}' ...")
    if detach:
        _ready(control.start(port, OUT.say))
        OUT.say("it runs in the background; 'mlpipe up --stop' ends it")
        return 0

    def ready(about: dict[str, Any]) -> None:
        _ready(about)
        OUT.say("Ctrl-C ends it")

    try:
        control.serve(port, OUT.say, ready)
    except KeyboardInterrupt:
        OUT.say("the server has ended")
    return 0


def status() -> int:
    """Say what carries the runs of this workspace."""
    workspace = here()
    about = workspace.server.status()
    engine = about["engine"]
    if engine == "server":
        how = "is well" if about["ready"] else f"is not well: {', '.join(about['unwell'])}"
        OUT.say(f"workspace '{workspace.name}': Airflow at {about['url']} {how}")
        if "password" in about:
            OUT.say(f"user {about['user']}, password {about['password']}")
        for name, count in about["restarts"].items():
            times = "once" if count == 1 else f"{count} times"
            OUT.say(f"its {name} had ended and was started again, {times}; its log: {workspace.dir}/airflow/{name}.log")
        for run_id, what in about["waiting"].items():
            OUT.warn(f"run {run_id} waits: {what}")
    elif engine == "embedded":
        OUT.say(f"workspace '{workspace.name}': runs go on without a server")
    else:
        OUT.say(f"workspace '{workspace.name}': nothing runs; 'mlpipe up' starts Airflow")
    computes = [_told(target) for target in ComputeTarget.list(workspace)]
    if computes:
        OUT.say(table(_COMPUTE_COLUMNS, [tuple(str(value) for value in row.values()) for row in computes]))
        if any(row["enforced"] == "no" for row in computes):
            OUT.say("resources of targets that run on the worker's machine are recorded and not enforced")
    OUT.answer({"workspace": workspace.name, **about, "computes": computes})
    return 0 if engine != "server" or about["ready"] else 1


def sync() -> int:
    """Give Airflow a pool for every compute target."""
    pools = here().server.sync()
    for row in pools:
        slots = "no limit" if row["slots"] < 0 else f"{row['slots']} slots"
        OUT.say(f"pool {row['pool']}: {slots}, {row['state']}")
    if not pools:
        OUT.say("the workspace has no compute targets, so there are no pools to make")
    left = [row["command"] for row in pools if row["state"] == "not made"]
    if left:
        OUT.say("no server of this workspace runs; runs without one need no pools. For another Airflow:")
        for line in left:
            OUT.say(line)
    OUT.answer(pools)
    return 0


def env() -> int:
    """Print what makes the ``airflow`` command see this workspace."""
    variables = here().server.variables()
    for name, value in variables.items():
        OUT.say(f"export {name}={shlex.quote(value)}")
    OUT.answer(variables)
    return 0


def _told(target: ComputeTarget) -> dict[str, str]:
    """Return a compute target for people; one whose host is gone says so."""
    limit = target.spec.max_nodes
    told = {"name": target.name, "type": target.type, "steps": "no limit" if limit is None else str(limit)}
    try:
        status = target.get_status()
    except ConfigError as error:
        return {**told, "runs_on": error.message, "each": "", "enforced": ""}
    enforced = "" if not resources_text(status.resources) else "no" if status.kind == "local" else "yes"
    return {**told, "runs_on": status.runs_on, "each": resources_text(status.resources), "enforced": enforced}


def _ready(about: dict[str, Any]) -> None:
    OUT.say(f"Airflow:  {about['url']}")
    OUT.say(f"user:     {about['user']}")
    OUT.say(f"password: {about['password']}")
    OUT.answer(about)
