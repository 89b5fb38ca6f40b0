"""From a step and what its inputs are to a job that can be launched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from airflow_mlpipe.execution.command import command, words
from airflow_mlpipe.execution.contract import (
    ContextInput,
    ContextOutput,
    RunIdentity,
    StagedInput,
    StepContext,
    StepJob,
)
from airflow_mlpipe.execution.direct import FOLDER, copies_of, lay_copies, places_of_stores
from airflow_mlpipe.execution.distribution import lay_ranks
from airflow_mlpipe.execution.inputs import InputPlaces
from airflow_mlpipe.execution.software import Software, this_interpreter
from airflow_mlpipe.execution.variables import variables
from airflow_mlpipe.model.data import InputSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import LocalStore, check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.mount_points import release_mounts
from airflow_mlpipe.storage.outputs import place_of, sweep_attempt
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.snapshot import extract_snapshot


def stage(
    step: StepSpec,
    run: RunIdentity,
    inputs: Mapping[str, StagedInput],
    *,
    store: Stores,
    default: Documents,
    work: Path,
    software: Software | None = None,
    passed: Collection[str] = (),
    streamed: bool = True,
    linked: bool = True,
    again: bool = False,
) -> StepJob:
    """Prepare one try of a step: its code, inputs, places for outputs, arguments and environment.

    What an earlier try of the same step run wrote to its outputs is removed first, so a step run that has a
    committed result must not be staged again.

    Args:
        step: what to run.
        run: which run it belongs to.
        inputs: what is known of each input port.
        store: opens a datastore by name.
        default: the default datastore, which keeps the snapshots.
        work: folder of this try; emptied if it exists.
        software: what its process runs on; by default this interpreter.
        passed: names or patterns of variables to inherit in addition to the usual ones.
        streamed: whether inputs in datastores elsewhere may be mounts, which end with this process or when the job is
            discarded; else they are downloaded.
        linked: whether inputs may be folders of links to data on this machine; else of copies.
        again: whether this try was staged before and goes on: what it has written since stays.

    Raises:
        MissingDataError: if the snapshot or an input is not there.
        DigestMismatchError: if a dataset elsewhere is not what the step's key was made of.
        PipelineError: if an input's ``path_on_compute`` cannot be made.
        ParameterError: if the number of its ranks is not allowed.
        StorageError: if something cannot be read or written.
    """
    work = work.absolute()
    software = software or this_interpreter()
    cwd = work / "code"
    shown = _shown(step, inputs, store, work, software)
    places = InputPlaces(store, work, cwd, streamed, linked, copies_of(shown, work))
    release_mounts(work)
    _clear(work, again=again)
    try:
        _lay_code(step, default, cwd)
        outputs = _prepare_outputs(step, run.step_run_id, store, work, again=again)
        remote = frozenset() if step.operator is None else step.operator.remote_inputs
        given = {
            port.name: _unplaced(port) if port.name in remote else places.place(port, inputs[port.name])
            for port in step.inputs
        }
        lay_copies(step, inputs, shown, store, work)
        context = context_of(step, run, given, outputs, work / "events.jsonl", shown)
        env = variables(step, context, work / "context.json", software, passed=passed)
        search = env.get("PATH", os.defpath)
        needs = lay_ranks(step, words(step, context, search, software), run.parameters, work)
        job = StepJob(
            step=step,
            argv=command(step, context, search, software),
            env=env,
            work=work,
            context=context,
            outputs=outputs,
            inputs=dict(inputs),
            references=tuple(places.references),
            links=tuple(places.links),
            needs=needs,
            mounts=tuple(places.mounts),
        )
        with system_errors("write", work):
            job.context_file.write_text(context.model_dump_json(), encoding="utf-8")
            for file in (job.events, job.stdout, job.stderr):
                file.touch()
    except BaseException:
        _unlink(places.links)
        for mount in places.mounts:
            mount.close()
        raise
    return job


def discard(job: StepJob) -> None:
    """Remove what staging made, once nothing of it is needed any more. What cannot be removed stays."""
    _unlink(job.links)
    job.close_mounts()
    shutil.rmtree(job.work, ignore_errors=True)
    with suppress(OSError):
        # The folder of the step run goes with its last try.
        job.work.parent.rmdir()


def _clear(work: Path, *, again: bool) -> None:
    with system_errors("write", work):
        if work.exists():
            # Of a try that goes on only the inputs are laid anew.
            for folder in (work / "inputs", work / FOLDER) if again else (work,):
                shutil.rmtree(folder, ignore_errors=again)
        (work / "code").mkdir(parents=True, exist_ok=again)


def _shown(
    step: StepSpec, inputs: Mapping[str, StagedInput], store: Stores, work: Path, software: Software
) -> dict[str, str]:
    if software.sees_catalog:
        return {}
    return places_of_stores(step, inputs, store, work, in_place=software.sees_files)


def _lay_code(step: StepSpec, default: Documents, cwd: Path) -> None:
    if step.snapshot is not None:
        extract_snapshot(step.snapshot, default, cwd)
    for name in ("outputs", "logs"):
        with system_errors("write", cwd / name):
            (cwd / name).mkdir(exist_ok=True)


def _unplaced(port: InputSpec) -> ContextInput:
    """Return what is known of an input of which nothing but its address is used."""
    return ContextInput(mode=port.mode, as_dataset=port.as_dataset, label=port.label, value=port.label or port.name)


def _prepare_outputs(step: StepSpec, step_run_id: str, store: Stores, work: Path, *, again: bool) -> dict[str, Path]:
    """Return where each output goes. An output itself does not exist yet, but its parent does, as in v1."""
    for name in set() if again else {port.datastore for port in step.outputs}:
        opened = store(name)
        # Elsewhere nothing is written before the commit, which removes what an earlier one has left.
        if isinstance(opened, LocalStore):
            sweep_attempt(step_run_id, opened)
    places = {}
    for port in step.outputs:
        path = place_of(port, step_run_id, check_files(store(port.datastore)), work)
        with system_errors("write", path):
            (path if port.kind == "dataset" else path.parent).mkdir(parents=True, exist_ok=True)
        places[port.name] = path
    return places


def context_of(
    step: StepSpec,
    run: RunIdentity,
    inputs: dict[str, ContextInput],
    outputs: Mapping[str, Path],
    events: Path,
    stores: dict[str, str],
) -> StepContext:
    """Return what the step's process is told."""
    used = step.used_parameters
    return StepContext(
        run_id=run.run_id,
        step_run_id=run.step_run_id,
        experiment=run.experiment,
        pipeline=run.pipeline,
        step=step.name,
        workspace=str(run.workspace.absolute()),
        about=run.about,
        stores=stores,
        parameters={name: value for name, value in run.parameters.items() if name in used},
        inputs=inputs,
        outputs={
            port.name: ContextOutput(path=str(outputs[port.name]), datastore=port.datastore, kind=port.kind)
            for port in step.outputs
        },
        events=str(events),
        snapshot=step.snapshot,
    )


def _unlink(links: Iterable[Path]) -> None:
    for link in links:
        with suppress(OSError):
            link.unlink()
