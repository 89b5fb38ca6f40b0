"""What stays of a try whatever its end: what it wrote to its run, its files and what it printed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.events import read_events
from airflow_mlpipe.model.result import FileRecord, ObservedInput, Written
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.urls import is_folder

STDOUT = "logs/mlpipe/stdout.txt"
STDERR = "logs/mlpipe/stderr.txt"
"""Names under which a step's files list what it printed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a try leaves, also one that failed.

    Attributes:
        written: metrics, tags, properties and files of the step.
        parent_written: what it wrote to its parent run.
        observed: what it looked up by name.
        failure: what it said when it called itself failed, or None.
        log: where the kept file with what it printed is: as errors if it printed any, else as output; a path on this
            machine, or a URL.
        warnings: what could not be kept.
    """

    written: Written
    parent_written: Written
    observed: tuple[ObservedInput, ...]
    failure: str | None
    log: Path | str
    warnings: tuple[str, ...] = ()


def keep(job: StepJob, default: Documents, *, printed: bool = True, inside: str = "") -> Kept:
    """Keep ``./outputs``, ``./logs`` and what the step printed in the default datastore, and read its events.

    Files go to ``runs/<step run id>/<name>`` without a copy where the file system allows it. A file that the step
    uploaded under the name of one in ``./outputs`` wins. A later try replaces the files of an earlier one.

    Args:
        job: the job.
        default: the default datastore.
        printed: whether what the step printed is here, in the job's files; else see :func:`keep_printed`.
        inside: folder of the step run's for the files of this part of the try; they are called the same all the same.

    Raises:
        StorageError: if something cannot be read or written.
    """
    events = read_events(job.events)
    warnings = [f"{events.damaged} damaged lines in {job.events} were left out"] if events.damaged else []
    files = {file.name: file for file in events.own.files}
    pairs = []
    found = [*_found(job, warnings), *(_printed(job) if printed else ())]
    for name, path in found:
        if name not in files:
            files[name] = _record(name, path, job, default, inside)
            pairs.append((path, files[name].path))
    default.keep_files(pairs)
    return Kept(
        written=events.own.model_copy(update={"files": tuple(files[name] for name in sorted(files))}),
        parent_written=events.parent,
        observed=events.observed,
        failure=events.failure,
        log=_log_of(files, job, default),
        warnings=tuple(warnings),
    )


def keep_printed(kept: Kept, job: StepJob, default: Documents) -> Kept:
    """Keep what the step printed, which is in the job's files here, and return `kept` with it.

    Raises:
        StorageError: if something cannot be read or written.
    """
    files = {file.name: file for file in kept.written.files}
    pairs = [(path, _record(name, path, job, default)) for name, path in _printed(job) if name not in files]
    default.keep_files([(path, record.path) for path, record in pairs])
    files |= {record.name: record for _, record in pairs}
    written = kept.written.model_copy(update={"files": tuple(files[name] for name in sorted(files))})
    return replace(kept, written=written, log=_log_of(files, job, default))


def keep_file(kept: Kept, name: str, path: Path, job: StepJob, default: Documents) -> Kept:
    """Keep one more file of a try under a name, and return `kept` with it.

    Raises:
        StorageError: if it cannot be read or written.
    """
    record = _record(name, path, job, default)
    default.keep_files([(path, record.path)])
    files = (*(file for file in kept.written.files if file.name != name), record)
    written = kept.written.model_copy(update={"files": tuple(sorted(files, key=lambda file: file.name))})
    return replace(kept, written=written)


def _record(name: str, path: Path, job: StepJob, default: Documents, inside: str = "") -> FileRecord:
    with system_errors("read", path):
        size_bytes = path.stat().st_size
    place = _place(f"{inside}/{name}" if inside else name, job)
    return FileRecord(name=name, datastore=default.name, path=place, size_bytes=size_bytes)


def _log_of(files: Mapping[str, FileRecord], job: StepJob, default: Documents) -> Path | str:
    errors = STDERR in files and files[STDERR].size_bytes
    log = default.shown(_place(STDERR if errors else STDOUT, job))
    return Path(log) if is_folder(log) else log


def _found(job: StepJob, warnings: list[str]) -> Iterator[tuple[str, Path]]:
    """Give each file to keep with its name. Links count as the file they mean, inside the try's folder only."""
    real_work = job.work.resolve()
    for top in ("outputs", "logs"):
        if (job.cwd / top).is_symlink():
            warnings.append(f"./{top} is a link and was not kept")
            continue
        for folder, _, names in os.walk(job.cwd / top):
            for name in names:
                path = Path(folder, name)
                # The name has to be text in documents, whatever bytes the file system holds.
                shown = os.fsencode(path.relative_to(job.cwd)).decode("utf-8", "backslashreplace")
                real = path.resolve()
                if real_work not in real.parents or not real.is_file():
                    warnings.append(f"{shown} is not a file of the step's working folder and was not kept")
                else:
                    yield shown, real


def _printed(job: StepJob) -> Iterator[tuple[str, Path]]:
    yield STDOUT, job.stdout
    yield STDERR, job.stderr


def _place(name: str, job: StepJob) -> str:
    return f"runs/{job.context.step_run_id}/{name}"
