"""Runs the staged job of a step in a container beside the worker."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.engine.container import StepContainer
from airflow_mlpipe.engine.container_mounts import Binds
from airflow_mlpipe.engine.container_refusals import explained_for
from airflow_mlpipe.engine.container_run import follow
from airflow_mlpipe.engine.container_sweep import end_containers, note
from airflow_mlpipe.engine.container_watch import watched
from airflow_mlpipe.engine.docker_engine import (
    RUN_LABEL,
    STEP_RUN_LABEL,
    TRY_LABEL,
    WORKSPACE_LABEL,
    DockerEngine,
    url_of,
)
from airflow_mlpipe.engine.image_build import ImageBuilder
from airflow_mlpipe.engine.images import Images
from airflow_mlpipe.errors import ExecutionError, MlpipeError, ServiceError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.launch import Exit
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import IMAGE, Software
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings, Resources
from airflow_mlpipe.model.docker_arguments import resources_of_arguments
from airflow_mlpipe.model.quantity import size_text
from airflow_mlpipe.model.step import StepSpec

if TYPE_CHECKING:
    from airflow_mlpipe.engine.room import Room

_log = logging.getLogger(__name__)


class ContainerLauncher:
    """Runs steps in containers of a compute target's Docker engine, which is on this machine."""

    def __init__(self, compute: ComputeSpec, room: Room) -> None:
        """Run steps on `compute`, of kind docker, in the workspace of `room`."""
        self._compute = compute
        self._settings = compute.docker or DockerSettings()
        self._room = room
        self._url = url_of(compute)
        self._image = ""

    def software(self, order: Order, site: Site) -> Software:
        """Bring the step's image to the engine: pulled, or built with the packages of its environment.

        Raises:
            ConfigError: if the step has no image, or there is none of that name.
            ParameterError: if its environment wants more of a container than a step may.
            EnvironmentBuildError: if its image cannot be built.
            UnreachableError: if the engine does not answer, or the image cannot be pulled now.
        """
        spec = order.step.environment

        # Before anything is waited for.
        limits_of(order.step, self._compute)
        lock = None if site.environments is None else site.environments.lock(spec, say=order.say)
        with closing(DockerEngine.at(self._url)) as engine:
            builder = ImageBuilder(engine, self._compute, Images(engine, self._compute, self._room.folder))
            # The content that the step's key has, not what its tag has come to mean since.
            content = (self._room.images(order.step) or {}).get("image")
            self._image = builder.provide(
                spec, lock, say=order.say, stop=order.stop, content=None if content is None else str(content)
            )
        return IMAGE

    def end_tries(self, tries: Path) -> None:
        """End the containers of earlier tries."""
        end_containers(tries)

    def launch(self, job: StepJob, order: Order) -> Exit:
        """Run the job's container and wait for it; when this returns or raises, there is no container of it.

        Raises:
            ConfigError: if the engine has no GPU for it, or does not see this machine's files.
            PipelineError: if its command is not in the image.
            UnreachableError: if the engine does not answer, or is lost while the step runs.
            ExecutionError: if somebody else has removed the container.
        """
        container = self._container(job)
        labels = container.labels
        with watched(self._url, labels), closing(container.engine):
            place = note(job.work, self._url, labels)
            try:
                with explained_for(job.step, self._compute, self._url):
                    self._create(container, job)
                    started_at = order.now()
                    container.start()
                ended = follow(container, job, order.stop, order.on_line)
                ended_at = order.now()
            finally:
                self._remove(container, place)
        return Exit(
            code=ended.code,
            started_at=started_at,
            ended_at=ended_at,
            stopped=ended.stopped,
            timed_out=ended.timed_out,
            hint=self._hint(job, ended.out_of_memory),
        )

    def _container(self, job: StepJob) -> StepContainer:
        (workspace_id, context) = (str(self._room.config.get("id", "")), job.context)
        return StepContainer(
            docker_url=self._url,
            image=self._image,
            container_name=f"mlpipe-{context.step_run_id}",
            # A step's words are the whole command, in a container as on a machine and in a pod: what the image would
            # run by itself is not asked.
            entrypoint=job.argv[:1],
            command=job.argv[1:],
            environment=self._environment(job),
            user=f"{os.getuid()}:{os.getgid()}",
            groups=os.getgroups(),
            working_dir=str(job.cwd),
            network_mode=self._settings.network_mode,
            binds=list(Binds(job, self._room.store, self._room.folder.absolute())),
            limits=limits_of(job.step, self._compute),
            labels={
                WORKSPACE_LABEL: workspace_id,
                RUN_LABEL: context.run_id,
                STEP_RUN_LABEL: context.step_run_id,
                TRY_LABEL: job.work.name.rpartition("-")[2],
            },
        )

    def _environment(self, job: StepJob) -> dict[str, str]:
        """Return the job's variables, with a home for a user whom the image may not know."""
        if os.getuid() == 0:
            return job.env
        home = job.work / "home"
        home.mkdir(exist_ok=True)
        return {"HOME": str(home), "USER": "mlpipe", "LOGNAME": "mlpipe", **job.env}

    def _create(self, container: StepContainer, job: StepJob) -> None:
        """Make the container. Its name is the step run's, so that the engine itself lets no two tries have one."""
        try:
            container.create()
        except ServiceError as error:
            if getattr(error.__cause__, "status_code", None) != 409:
                raise
            other = next(iter(container.engine.labelled({STEP_RUN_LABEL: job.context.step_run_id})), None)
            if other is None or int(other["Labels"].get(TRY_LABEL, 0)) > int(container.labels[TRY_LABEL]):
                raise ExecutionError(
                    f"step '{job.step.name}': a later try of it has begun; this one was taken for dead"
                ) from None
            container.engine.remove(other["Id"])
            container.create()

    def _hint(self, job: StepJob, out_of_memory: bool) -> str | None:
        if not out_of_memory:
            return None
        limit = limits_of(job.step, self._compute).memory_bytes
        what = "the memory of the machine was used up" if limit is None else f"it took more than its {size_text(limit)}"
        return f"it was ended because {what}; give it more (memory of the step or of '{self._compute.name}')"

    def _remove(self, container: StepContainer, place: Path) -> None:
        """Remove the container. One that cannot be removed is left to the next try and the next sweep, by its note."""
        try:
            if container.container is not None:
                container.remove()
            place.unlink(missing_ok=True)
        except (MlpipeError, OSError) as error:
            _log.warning("container %s is left: %s", container.container_name, error)


def limits_of(step: StepSpec, compute: ComputeSpec) -> Resources:
    """Return how much a step gets: what it asks for itself, else its target.

    Raises:
        ParameterError: if its environment wants something else of a container. What the environment asks for stands in
            the step's own resources; but a definition need not come from where that was looked at.
    """
    resources_of_arguments(step.environment.docker_arguments)
    return step.resources.over(compute.resources)
