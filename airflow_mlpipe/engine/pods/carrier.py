"""The carrier of steps that run in pods of a cluster."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s

from airflow_mlpipe.engine.pods.follow import follow
from airflow_mlpipe.engine.pods.guard import guarded
from airflow_mlpipe.engine.pods.operator import GRACE_S, StepPod
from airflow_mlpipe.engine.pods.outcome import PodCarried, Tried, finish
from airflow_mlpipe.engine.pods.spec import ORDER, PLACE, VARIABLE_NAME, PodPlan, order_label
from airflow_mlpipe.engine.pods.view import view_of
from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.command import command
from airflow_mlpipe.execution.contract import try_folder
from airflow_mlpipe.execution.pod.making import Reach, hand_over, make_order
from airflow_mlpipe.execution.pod.order import OrderPlace, PodOrder
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import IMAGE
from airflow_mlpipe.execution.variables import variables
from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings
from airflow_mlpipe.model.environment import EnvironmentLock
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.model.target import effective
from airflow_mlpipe.storage.atomic import system_errors

_log = logging.getLogger(__name__)

_WATCHED = {"conn_id", "startup_timeout_s", "staging_timeout_s", "collect_timeout_s"}

HELPER_IMAGE = "helper_image"
"""Setting of a workspace: the image with this package that stages and collects, for targets that name none."""

IMAGE_BUILDER = "image_build_compute"
"""Setting of a workspace, of v1's name: the DockerCompute that builds images for pods, and pushes them."""


@dataclass(frozen=True, slots=True)
class InPods:
    """Carries out steps in pods.

    Attributes:
        target: the compute target.
        settings: of the workspace; see :data:`HELPER_IMAGE` and :data:`IMAGE_BUILDER`.
        context: Airflow's, of the task.
    """

    target: ComputeSpec
    settings: Mapping[str, Any]
    context: Any

    def carry(self, order: Order, site: Site) -> PodCarried:
        """Run a step once; see :meth:`airflow_mlpipe.execution.carrier.Carrier.carry`."""
        tried = self.begin(order, site)
        with self._guarded(tried):
            followed = follow(tried)
        return finish(tried, followed)

    def _guarded(self, tried: Tried) -> AbstractContextManager[None]:
        """Have the pod ended with this process if no try is left that would find it."""
        ti = self.context["ti"]
        if ti.try_number <= getattr(ti, "max_tries", 0):
            return nullcontext()
        return guarded(tried.pod, tried.pods.client.api_client.configuration, GRACE_S)

    @property
    def detaches(self) -> bool:
        """Whether its pods are to be waited for without a worker's slot."""
        return self._settings.deferrable

    def detach(self, order: Order, site: Site) -> dict[str, Any]:
        """Make a pod, or find the one of an earlier try, and return what finds it again."""
        tried = self.begin(order, site)
        reason = order.stop()
        if reason is not None:
            # Asked once the pod is there: whoever ends the run from now on has it found and deleted.
            stopped = replace(tried, order=replace(order, stop=lambda: reason))
            finish(stopped, follow(stopped))
        settings = self._settings
        return {
            "name": tried.pod.metadata.name,
            "namespace": tried.pod.metadata.namespace,
            "uid": tried.pod.metadata.uid,
            "place": tried.place.model_dump(mode="json"),
            "again": tried.again,
            "target": self.target.name,
            "step": order.step.name,
            "timeout_s": order.step.timeout_s,
            "settings": settings.model_dump(mode="json", include=_WATCHED),
        }

    def attach(self, order: Order, site: Site, found_by: Mapping[str, Any], waited: Mapping[str, Any]) -> PodCarried:
        """Come back to a pod that has ended, or is to be ended; see `Detachable`."""
        plan = self.plan(order, site)
        metadata = k8s.V1ObjectMeta(name=found_by["name"], namespace=found_by["namespace"], uid=found_by["uid"])
        place = OrderPlace.model_validate(found_by["place"])
        pods, pod = StepPod(plan=plan), k8s.V1Pod(metadata=metadata)
        tried = Tried(order, site, plan, pods, pod, place, _folder_of(order), again=bool(found_by["again"]))
        with self._guarded(tried):
            followed = follow(tried, waited.get("spent_s"))
        return finish(tried, followed)

    @property
    def _settings(self) -> KubernetesSettings:
        return self.target.kubernetes or KubernetesSettings()

    def begin(self, order: Order, site: Site) -> Tried:
        """Return the pod of a try: the one of an earlier try that does the same, or a new one.

        Raises:
            UsageError: if there cannot be such a pod.
            StorageError: if its order cannot be written.
            ServiceError: if the cluster cannot be reached or refuses, or a pod of an earlier try does not end.
        """
        plan = self.plan(order, site)
        pods = StepPod(plan=plan)
        work = _folder_of(order)
        found = _taken_over(pods, plan.order)
        if found is not None:
            store = next(each for each in plan.order.stores if each.name == plan.order.defaults[0])
            place = OrderPlace(store=store, folder=found.metadata.annotations[PLACE])
            _log.info("step '%s': pod '%s' of an earlier try goes on", order.step.name, found.metadata.name)
            return Tried(order, site, plan, pods, found, place, work, again=True)
        place = hand_over(plan.order, site)
        pods = StepPod(plan=plan, place=place)
        pod = pods.make(self.context)
        _log.info("step '%s' runs in pod '%s' of namespace '%s'", order.step.name, pod.metadata.name, pods.where)
        return Tried(order, site, plan, pods, pod, place, work)

    def plan(self, order: Order, site: Site) -> PodPlan:
        """Return what the pod of a try is made of. Errors are those of :meth:`begin`."""
        settings = self._settings
        workspace = str(order.run.workspace.absolute())
        volume = None if settings.workspace_volume is None else WorkspaceVolume(settings.workspace_volume, workspace)
        image, helper = self._image(order, site, settings), self._helper(settings)
        identity = settings.credentials_secret is not None or settings.service_account is not None
        document = make_order(order, site, Reach(target=self.target.name, identity=identity, volume=volume is not None))
        _check_variables(order.step)
        env = variables(order.step, document.context, Path(document.work) / "context.json", IMAGE)
        return PodPlan(
            order=document,
            argv=command(order.step, document.context, env.get("PATH", ""), IMAGE),
            env=env,
            image=image,
            helper_image=helper,
            target=self.target,
            workspace_id=site.workspace_id,
            volume=volume,
        )

    def _image(self, order: Order, site: Site, settings: KubernetesSettings) -> str:
        environment = order.step.environment
        lock = None if site.environments is None else site.environments.lock(environment)
        if lock is not None or environment.dockerfile:
            return self._built(order, site, lock)
        image = environment.image or settings.image
        if image is None:
            raise ConfigError(
                f"step '{order.step.name}' has no image to run in on compute target '{self.target.name}'; give its "
                "environment a docker image, or the target a default one"
            )
        return image

    def _built(self, order: Order, site: Site, lock: EnvironmentLock | None) -> str:
        """Return the image of an environment that asks for more than an image, built if need be: no pod installs."""
        step, builder = order.step, self.settings.get(IMAGE_BUILDER)
        if builder is None:
            asks = "is of a Dockerfile" if lock is None else "asks for packages"
            raise ConfigError(
                f"step '{step.name}' runs in a pod of compute target '{self.target.name}', and its environment "
                f"'{step.environment.name}' {asks}, which nobody builds an image of; set the workspace's setting "
                f"'{IMAGE_BUILDER}' to a DockerCompute that pushes to a registry of the cluster, or give the "
                "environment an image that has all: Environment.from_docker_image(...)"
            )
        # Here, not above: most pods need no library of Docker's.
        from airflow_mlpipe.engine.image_build import build_at

        find = site.catalog.get_compute
        target = effective(find(str(builder)), find, self.settings)
        if target.kind != "docker":
            raise ConfigError(
                f"setting '{IMAGE_BUILDER}': '{builder}' runs steps by {target.kind}; name a DockerCompute"
            )
        return build_at(order.run.workspace, target, step.environment, lock, order.say)

    def _helper(self, settings: KubernetesSettings) -> str:
        helper = settings.helper_image or self.settings.get(HELPER_IMAGE)
        if helper is None:
            raise ConfigError(
                f"compute target '{self.target.name}' has no helper_image, an image with this package that stages "
                f"and collects; set it, or the workspace's setting '{HELPER_IMAGE}'"
            )
        return str(helper)


def _check_variables(step: StepSpec) -> None:
    """Raise a ConfigError for a variable that a pod cannot have: Kubernetes refuses its name."""
    odd = [name for name in step.environment.variables if VARIABLE_NAME.fullmatch(name) is None]
    if odd:
        raise ConfigError(
            f"step '{step.name}': environment variable {odd[0]!r} cannot be had in a pod; use letters, digits, '_', "
            "'-' and '.', and no digit first"
        )


def _folder_of(order: Order) -> Path:
    """Make the folder of a try on this machine, for what its step prints."""
    work = try_folder(order.run.workspace, order.run.step_run_id, order.number).absolute()
    with system_errors("write", work):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for name in ("stdout.txt", "stderr.txt"):
            (work / name).touch()
    return work


def _taken_over(pods: StepPod, order: PodOrder) -> Any | None:
    """Return the pod of an earlier try that still does what is to be done, and end all others: one writes at a time."""
    taken = None
    for pod in pods.found():
        view = view_of(pod)
        same = pod.metadata.labels.get(ORDER) == order_label(order) and PLACE in (pod.metadata.annotations or {})
        failed = view.phase == "Failed" or (view.base is not None and view.base.code != 0)
        if taken is None and same and not failed and not view.deleting:
            taken = pod
        else:
            pods.end(pod)
    return taken
