"""The carrier of steps whose files are on this machine: launched as a process, or in a container beside it."""

from __future__ import annotations

import errno
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from airflow_mlpipe.errors import MlpipeError, StorageError
from airflow_mlpipe.execution.carrier import Order, StepPaused, note_failure
from airflow_mlpipe.execution.collect import Collected, collect
from airflow_mlpipe.execution.contract import StepJob, step_run_folder, try_folder
from airflow_mlpipe.execution.kept import Kept, keep
from airflow_mlpipe.execution.launch import Exit, launch
from airflow_mlpipe.execution.lent import lend, take_back
from airflow_mlpipe.execution.processes import end_carriers, mark_of
from airflow_mlpipe.execution.provision import software_of
from airflow_mlpipe.execution.report import full_disk
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import Software, this_interpreter
from airflow_mlpipe.execution.stage import discard, stage
from airflow_mlpipe.execution.venvs import Venv
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.mount_points import release_mounts
from airflow_mlpipe.storage.outputs import sweep_attempt

_log = logging.getLogger(__name__)


class Launcher(Protocol):
    """Runs the process of a staged step."""

    def software(self, order: Order, site: Site) -> Software:
        """Return what the step's process runs on, made ready.

        Raises:
            UsageError: if there is no such software, or it is not what the step asks for.
        """

    def launch(self, job: StepJob, order: Order) -> Exit:
        """Run the process of an order's job and wait for it; see :func:`airflow_mlpipe.execution.launch.launch`."""

    def end_tries(self, tries: Path) -> None:
        """End what is left of tries of a step run, whose folder is `tries`."""


class LocalLauncher:
    """Runs steps as processes of this machine."""

    def __init__(self) -> None:
        self._venv: Venv | None = None

    def software(self, order: Order, site: Site) -> Software:
        """Return the step's environment, built if need be; it stays until the process has ended."""
        spec, name = order.step.environment, order.step.name
        image = spec.docker_image or ("of its Dockerfile" if spec.dockerfile else None)
        if image is not None:
            _log.warning("step '%s': image %s is not used: the step runs as a process of this machine", name, image)
        if site.environments is None:
            return this_interpreter()

        self._venv = site.environments.venv(spec, say=order.say, stop=order.stop)
        return software_of(spec, self._venv)

    def launch(self, job: StepJob, order: Order) -> Exit:
        """Run the job's process; it is a child of this one."""
        try:
            return launch(job, stop=order.stop, on_line=order.on_line, now=order.now)
        finally:
            if self._venv is not None:
                self._venv.close()

    def end_tries(self, tries: Path) -> None:
        """End the processes of earlier tries."""
        end_carriers(f"{mark_of(tries)}/")


@dataclass(slots=True)
class CarriedHere:
    """A try whose folder is on this machine; see :class:`~airflow_mlpipe.execution.carrier.Carried`."""

    order: Order
    site: Site
    job: StepJob
    exit: Exit
    kept: Kept
    collected: Collected

    def give_up(self, error: BaseException) -> None:
        """Keep what tells of the try."""
        _keep_failure(self.order, self.job, self.exit, self.kept, self.site, error)

    def discard(self) -> None:
        """Remove the try's folder, and those of earlier tries, which have nothing to tell any more."""
        discard(self.job)
        shutil.rmtree(self.job.work.parent, ignore_errors=True)


class Here:
    """Carries out steps with their files on this machine."""

    def __init__(self, launcher: Launcher) -> None:
        """Run steps with `launcher`."""
        self._launcher = launcher

    def carry(self, order: Order, site: Site) -> CarriedHere:
        """Run a step once; see :meth:`airflow_mlpipe.execution.carrier.Carrier.carry`."""
        run = order.run
        software = self._launcher.software(order, site)
        self._end_earlier_tries(order)
        job = stage(
            order.step,
            run,
            order.inputs,
            store=site.store,
            default=site.default,
            work=try_folder(run.workspace, run.step_run_id, order.number),
            software=software,
            passed=site.passed,
            again=order.resumed,
            streamed=software.sees_mounts,
        )
        exit: Exit | None = None
        kept: Kept | None = None
        try:
            exit = self._launched(job, order, site)
            kept = keep(job, site.default)
            # What was kept may have been read there; from now on all that it had to say is known.
            job.close_mounts()
            collected = collect(
                job, exit, kept, store=site.store, content=site.content, index=site.index, manifests=site.default
            )
        except StepPaused:
            job.close_mounts()
            raise
        except BaseException as error:
            _keep_failure(order, job, exit, kept, site, error)
            raise
        return CarriedHere(order, site, job, exit, kept, collected)

    def _end_earlier_tries(self, order: Order) -> None:
        """End what is left of a try that is still being ended: it would write to the places of the next one.

        Mounts of one that was killed are taken away, before anything removes its folder.
        """
        tries = step_run_folder(order.run.workspace.absolute(), order.run.step_run_id)
        if tries.exists():
            self._launcher.end_tries(tries)
            release_mounts(tries)

    def _launched(self, job: StepJob, order: Order, site: Site) -> Exit:
        try:
            lend(job, site.credentials, site.lent)
            return self._launcher.launch(job, order)
        finally:
            take_back(job)


def _keep_failure(
    order: Order, job: StepJob, exit: Exit | None, kept: Kept | None, site: Site, error: BaseException
) -> None:
    """Keep what a failed try leaves. Why it failed matters more than what cannot be kept: that is only logged."""
    if _no_room(error, job):
        _sweep_outputs(job, site)
    try:
        try:
            _note_failure(order, job, exit, kept, site)
        except StorageError:
            # Most likely the step has filled the disk.
            _sweep_outputs(job, site)
            _note_failure(order, job, exit, kept, site)
        finally:
            job.close_mounts()
    except MlpipeError as trouble:
        _log.warning("step '%s': what it wrote could not be kept: %s", job.step.name, trouble.message)


def _no_room(error: BaseException, job: StepJob) -> bool:
    """Whether a try failed because a disk is full, or has left it full."""
    cause = error.__cause__
    refused = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return refused or full_disk([job.work, *(path.parent for path in job.outputs.values())]) is not None


def _sweep_outputs(job: StepJob, site: Site) -> None:
    """Remove what the try wrote to its outputs: no result, and the record of its failure and later runs need room."""
    for name in {port.datastore for port in job.step.outputs}:
        try:
            sweep_attempt(job.context.step_run_id, check_files(site.store(name)))
        except MlpipeError as error:
            _log.warning("step '%s': its outputs could not be removed: %s", job.step.name, error.message)


def _note_failure(order: Order, job: StepJob, exit: Exit | None, kept: Kept | None, site: Site) -> None:
    """Note what a try leaves that gives no result, and make room: copies of inputs are of no more use."""
    note_failure(order, site, keep(job, site.default) if kept is None else kept, exit)
    for link in job.links:
        link.unlink(missing_ok=True)
    job.close_mounts()
    shutil.rmtree(job.work / "inputs", ignore_errors=True)
