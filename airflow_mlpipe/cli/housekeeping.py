"""``catalog rebuild``, ``verify`` and ``gc``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import here
from airflow_mlpipe.cli.running import pairs
from airflow_mlpipe.cli.tables import Column, one_line, table
from airflow_mlpipe.errors import ParameterError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

SHOWN = 20
"""How many lines of one kind are shown to people."""


def rebuild(datastores: list[str]) -> int:
    """Make the catalog whole from the records of its stores."""
    from airflow_mlpipe.sdk.housekeeping import rebuild_catalog

    done = rebuild_catalog(here(), pairs(datastores, "datastore"))
    if done.aside is not None:
        OUT.say(f"the database could not be used; it is kept beside the new one as {done.aside.name}")
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


def verify(read_data: bool, dry_run: bool) -> int:
    """Check that everything is whole."""
    from airflow_mlpipe.sdk.housekeeping import verify_workspace

    done = verify_workspace(here(), read_data=read_data, dry_run=dry_run)
    for problem in done.problems:
        OUT.say(one_line(str(problem)))
    looked = (
        f"{_counted(done.results, 'result')} with {_counted(done.files, 'file')} ({size_text(done.size_bytes)}), "
        f"{_counted(done.snapshots, 'snapshot')}, {_counted(done.models, 'model version')}"
    )
    OUT.say(f"{'read' if read_data else 'checked'}: {looked}")
    verdict = _counted(len(done.problems), "problem") if done.problems else "no problems"
    marked = f"; {_counted(done.marked, 'result')} marked doubtful: the next run computes anew" if done.marked else ""
    OUT.say(f"{verdict}{marked}")
    OUT.answer(asdict(done))
    return 1 if done.problems else 0


def collect(delete: bool, grace: str, unused_for: str) -> int:
    """Tell what is garbage, or remove it."""
    from airflow_mlpipe.sdk.housekeeping import collect_garbage

    done = collect_garbage(
        here(),
        delete=delete,
        grace=duration(grace, "--grace"),
        unused_for=duration(unused_for, "--unused-for") if unused_for else None,
    )
    rows = [(f"{tally.count:,}", size_text(tally.size_bytes), kind) for kind, tally in sorted(done.kinds.items())]
    if rows:
        OUT.say(table((Column("COUNT", right=True), Column("SIZE", right=True), Column("WHAT")), rows))
    for name, tally in sorted(done.datastores.items()):
        OUT.say(f"in datastore '{name}': {_counted(tally.count, 'item')} ({size_text(tally.size_bytes)})")
    for line in done.refused:
        OUT.say(one_line(line))
    for line in sorted(done.away.values()):
        OUT.say(one_line(f"left out: {line}"))
    verb = "removed" if delete else "to be removed"
    hint = "" if delete or not rows else "; 'mlpipe gc --delete' does it"
    OUT.say(f"{size_text(done.size_bytes)} {verb}{hint}")
    for tally, why in (
        (done.young, f"younger than {grace}"),
        (done.named, "read by path, by a registered dataset or a pipeline"),
        (done.unknown, "not known to this workspace's catalog"),
    ):
        if tally.count:
            OUT.say(f"kept: {_counted(tally.count, 'item')} ({size_text(tally.size_bytes)}) {why}")
    if done.unknown_elsewhere:
        OUT.say(f"kept: {_counted(done.unknown_elsewhere, 'item')} in remote datastores that its catalog does not know")
    OUT.answer({**asdict(done), "size_bytes": done.size_bytes})
    return 3 if done.refused or done.away else 0


def duration(text: str, option: str) -> timedelta:
    """Return what e.g. ``90d``, ``24h``, ``30m`` or ``0s`` means.

    Raises:
        ParameterError: if it is none of these.
    """
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or not number.isascii() or unit not in _UNITS:
        raise ParameterError(f"{option} '{text}' is not a duration; write e.g. 90d, 24h, 30m or 0s")
    return timedelta(seconds=int(number) * _UNITS[unit])


def size_text(size_bytes: int) -> str:
    """Return e.g. ``512 bytes`` or ``1.5 GB``; a GB has 1000 MB."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size_bytes:,} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _more(number: int) -> None:
    if number > SHOWN:
        OUT.say(f"... and {number - SHOWN:,} more; --json lists them all")
