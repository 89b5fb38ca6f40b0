"""What stays of a try whatever its end: what it wrote to its run, its files and what it printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_mlpipe.execution.aside import Aside, files_below
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.events import read_events
from airflow_mlpipe.model.result import FileRecord, ObservedInput, WantedModel, Written
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
        models: what it wants to have registered, with where their files are kept.
    """

    written: Written
    parent_written: Written
    observed: tuple[ObservedInput, ...]
    failure: str | None
    log: Path | str
    warnings: tuple[str, ...] = ()
    models: tuple[WantedModel, ...] = ()


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
    aside = Aside(job.work)
    pairs = []
    found = [*_found(job, warnings), *(_printed(job) if printed else ())]
    for name, path in [*_inside(aside.folder("self"), job, warnings), *found]:
        if name not in files:
            files[name] = _record(name, path, job, default, inside)
            pairs.append((path, files[name].path))
    parents = {file.name: file for file in events.parent.files}
    for name, path in _inside(aside.folder("parent"), job, warnings):
        parents[name] = _record(name, path, job, default, of=job.context.run_id)
        pairs.append((path, parents[name].path))
    models = []
    for wanted in events.models:
        laid = dict(_inside(aside.model(wanted.place) / (wanted.folder or ""), job, warnings))
        places = {name: _place(f"models/{wanted.place}/{name}", job, inside) for name in laid}
        pairs += [(laid[name], places[name]) for name in laid]
        models += [wanted.model_copy(update={"files": places})] if laid else []
    default.keep_files(pairs)
    return Kept(
        written=_with_files(events.own, files),
        parent_written=_with_files(events.parent, parents),
        observed=events.observed,
        failure=events.failure,
        log=_log_of(files, job, default),
        warnings=tuple(warnings),
        models=tuple(models),
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
    return replace(kept, written=_with_files(kept.written, files), log=_log_of(files, job, default))


def keep_file(kept: Kept, name: str, path: Path, job: StepJob, default: Documents) -> Kept:
    """Keep one more file of a try under a name, and return `kept` with it.

    Raises:
        StorageError: if it cannot be read or written.
    """
    record = _record(name, path, job, default)
    default.keep_files([(path, record.path)])
    files = {file.name: file for file in kept.written.files} | {name: record}
    return replace(kept, written=_with_files(kept.written, files))


def _with_files(written: Written, files: Mapping[str, FileRecord]) -> Written:
    return written.model_copy(update={"files": tuple(files[name] for name in sorted(files))})


def _record(
    name: str, path: Path, job: StepJob, default: Documents, inside: str = "", of: str | None = None
) -> FileRecord:
    """Return the record of a file of the step's run, or of another one's; its place may be in a folder of the run."""
    with system_errors("read", path):
        size_bytes = path.stat().st_size
    return FileRecord(name=name, datastore=default.name, path=_place(name, job, inside, of), size_bytes=size_bytes)


def _log_of(files: Mapping[str, FileRecord], job: StepJob, default: Documents) -> Path | str:
    errors = STDERR in files and files[STDERR].size_bytes
    log = default.shown(_place(STDERR if errors else STDOUT, job))
    return Path(log) if is_folder(log) else log


def _found(job: StepJob, warnings: list[str]) -> Iterator[tuple[str, Path]]:
    """Give each file to keep with its name. Links count as the file they mean, inside the try's folder only."""
    for top in ("outputs", "logs"):
        if (job.cwd / top).is_symlink():
            warnings.append(f"./{top} is a link and was not kept")
            continue
        for name, path in _inside(job.cwd / top, job, warnings, top=f"{top}/"):
            yield f"{top}/{name}", path


def _inside(folder: Path, job: StepJob, warnings: list[str], top: str = "") -> Iterator[tuple[str, Path]]:
    real_work = job.work.resolve()
    for name, path in files_below(folder):
        real = path.resolve()
        if real_work not in real.parents or not real.is_file():
            warnings.append(f"{top}{name} is not a file of the step's working folder and was not kept")
        else:
            yield name, real


def _printed(job: StepJob) -> Iterator[tuple[str, Path]]:
    yield STDOUT, job.stdout
    yield STDERR, job.stderr


def _place(name: str, job: StepJob, inside: str = "", of: str | None = None) -> str:
    return "/".join(part for part in ("runs", of or job.context.step_run_id, inside, name) if part)
