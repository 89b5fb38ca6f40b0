"""Operators, a trigger and callbacks that tests name by import path."""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent


def note(path: Path, line: str) -> None:
    """Add a line to a file."""
    with path.open("a") as file:
        file.write(f"{line}\n")


class Write(BaseOperator):
    """Writes the first line of what it reads, and what it is told, and returns how long that is."""

    template_fields = ("told",)

    def __init__(self, *, target: str, told: dict[str, Any], source: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target, self.told, self.source = target, told, source

    def execute(self, context):
        print("printed by Write")
        self.log.info("logged by %s", "Write")
        read = [] if self.source is None else [Path(self.source).read_text().splitlines()[0]]
        text = "\n".join([*read, json.dumps(self.told)])
        Path(self.target).write_text(text)
        return {"length": len(text)}


class Stubborn(BaseOperator):
    """Runs until it is ended; ``on_kill`` says so and changes nothing."""

    def __init__(self, *, started: str, killed: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.started, self.killed = Path(started), Path(killed)

    def execute(self, context):
        self.started.touch()
        while True:
            time.sleep(0.05)

    def on_kill(self):
        self.killed.touch()


class Raises(BaseOperator):
    """Raises, once a flag is there if it is given one, and every time but the second if it is given a mark to make."""

    def __init__(self, *, how: str, flag: str | None = None, mark: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how, self.flag, self.mark = how, flag, mark

    def execute(self, context):
        while self.flag is not None and not Path(self.flag).exists():
            time.sleep(0.05)
        if self.mark is not None:
            if Path(self.mark).exists():
                return
            Path(self.mark).touch()
        kinds = {"skip": AirflowSkipException, "final": AirflowFailException, "error": ValueError}
        raise kinds[self.how]("no such colour")


class Flag(BaseTrigger):
    """Fires once a file is there."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def serialize(self):
        return f"{type(self).__module__}.{type(self).__name__}", {"path": self.path}

    async def run(self):
        import asyncio

        while not Path(self.path).exists():
            await asyncio.sleep(0.05)
        yield TriggerEvent({"flag": self.path})


class Defers(BaseOperator):
    """Writes one file, waits for a flag, and writes another one."""

    def __init__(self, *, folder: str, flag: str, asked: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder, self.flag, self.asked = folder, flag, asked

    def execute(self, context):
        Path(self.folder).mkdir()
        Path(self.folder, "before").write_text("written before")
        Path(self.asked).touch()
        self.log.info("asks for the flag")
        self.defer(trigger=Flag(self.flag), method_name="go_on", kwargs={"more": [1, 2]})

    def go_on(self, context, event, more):
        Path(self.folder, "after").write_text(json.dumps([event["flag"] == self.flag, more]))
        return "gone on"


class Submits(BaseOperator):
    """Begins a job elsewhere, which only it knows the name of, and waits until somebody says that it is done."""

    def __init__(self, *, place: str, target: str | None = None, timeout_s: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.place, self.target, self.timeout_s = place, target, timeout_s
        self.job: str | None = None

    def execute(self, context):
        self.job = f"job-{uuid.uuid4().hex}"
        note(Path(self.place, "begun"), self.job)
        timeout = None if self.timeout_s is None else timedelta(seconds=self.timeout_s)
        self.defer(trigger=Flag(f"{self.place}/flag"), method_name="go_on", timeout=timeout)

    def go_on(self, context, event):
        if self.target is not None:
            Path(self.target).write_text(event["flag"])
        return "gone on"

    def on_kill(self):
        note(Path(self.place, "killed"), str(self.job))


def begins(context):
    """A callback: notes that a task begins, where its operator's marks go."""
    note(Path(os.environ["BEGUN"]), context["ti"].task_id)


class Notes(BaseNotifier):
    """Writes a file."""

    template_fields = ("path",)

    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def notify(self, context):
        Path(self.path).write_text(context["ti"].task_id)
