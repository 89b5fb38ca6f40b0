"""``up``, ``status`` and ``env``."""

from __future__ import annotations

import shlex
from typing import Any

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import here
from airflow_mlpipe.errors import ParameterError


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
    elif engine == "embedded":
        OUT.say(f"workspace '{workspace.name}': runs go on without a server")
    else:
        OUT.say(f"workspace '{workspace.name}': nothing runs; 'mlpipe up' starts Airflow")
    OUT.answer({"workspace": workspace.name, **about})
    return 0 if engine != "server" or about["ready"] else 1


def env() -> int:
    """Print what makes the ``airflow`` command see this workspace."""
    variables = here().server.variables()
    for name, value in variables.items():
        OUT.say(f"export {name}={shlex.quote(value)}")
    OUT.answer(variables)
    return 0


def _ready(about: dict[str, Any]) -> None:
    OUT.say(f"Airflow:  {about['url']}")
    OUT.say(f"user:     {about['user']}")
    OUT.say(f"password: {about['password']}")
    OUT.answer(about)
