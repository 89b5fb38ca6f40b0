"""``catalog rebuild``, ``verify`` and ``gc``."""

from __future__ import annotations

from dataclasses import asdict

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import here
from airflow_mlpipe.cli.running import pairs
from airflow_mlpipe.cli.tables import Column, table

SHOWN = 20
"""How many lines of one kind are shown to people."""


def rebuild(datastores: list[str]) -> int:
    """Make the catalog whole from the records of its stores."""
    from airflow_mlpipe.sdk.housekeeping import rebuild_catalog

    done = rebuild_catalog(here(), pairs(datastores, "datastore"))
    if done.aside is not None:
        OUT.say(f"the database could not be used; it is kept as {done.aside}")
    if done.datastores:
        OUT.say(f"registered datastores: {', '.join(done.datastores)}")
    OUT.say(
        f"put back: {_counted(done.results, 'result')}, {_counted(done.runs, 'run')}, "
        f"{_counted(done.models, 'model version')}; {done.known} results were known"
    )
    if done.written:
        OUT.say(f"written to the store: {_counted(done.written, 'record')} that it did not have")
    if done.foreign:
        OUT.say(f"not looked at: {_counted(done.foreign, 'record')} of other workspaces that use the same datastores")
    if done.left_out:
        OUT.say(f"left out: {_counted(len(done.left_out), 'record')}")
        OUT.say(table((Column("RECORD", widest=56), Column("WHY")), done.left_out[:SHOWN]))
        _more(len(done.left_out))
    OUT.answer(asdict(done))
    return 0


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _more(number: int) -> None:
    if number > SHOWN:
        OUT.say(f"... and {number - SHOWN:,} more; --json lists them all")
