"""The carrier of steps that run in pods of a cluster."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s

from airflow_mlpipe.engine.pods.follow import follow
from airflow_mlpipe.engine.pods.guard import guarded
from airflow_mlpipe.engine.pods.joint import has_failed
from airflow_mlpipe.engine.pods.operator import GRACE_S, StepPod
from airflow_mlpipe.engine.pods.outcome import PodCarried, Tried, finish, sweep
from airflow_mlpipe.engine.pods.spec import NODE, ORDER, PLACE, VARIABLE_NAME, PodPlan, order_label
from airflow_mlpipe.engine.pods.view import view_of
from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume
from airflow_mlpipe.errors import ConfigError, MlpipeError
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
        """Have the pods ended with this process if no try is left that would find them."""
        ti = self.context["ti"]
        if ti.try_number <= getattr(ti, "max_tries", 0):
            return nullcontext()
        made = [each.pod for each in tried.nodes]
        return guarded(made, tried.pods.client.api_client.configuration, GRACE_S)

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
            "others": [{"name": each.pod.metadata.name, "uid": each.pod.metadata.uid} for each in tried.others],
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
        made = [
            k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=each["name"], namespace=found_by["namespace"], uid=each["uid"]))
            for each in (found_by, *found_by.get("others", ()))
        ]
        tried = _tried(
            Tried(
                order,
                site,
                plan,
                StepPod(plan=plan),
                made[0],
                OrderPlace.model_validate(found_by["place"]),
                _folder_of(order),
                again=bool(found_by["again"]),
            ),
            made[1:],
        )
        with self._guarded(tried):
            followed = follow(tried, waited.get("spent_s"))
        return finish(tried, followed)

    @property
    def _settings(self) -> KubernetesSettings:
        return self.target.kubernetes or KubernetesSettings()

    def begin(self, order: Order, site: Site) -> Tried:
        """Return the pod of a try, or its pods: those of an earlier try that do the same, or new ones.

        Raises:
            UsageError: if there cannot be such a pod.
            StorageError: if its order cannot be written.
            ServiceError: if the cluster cannot be reached or refuses, or a pod of an earlier try does not end.
        """
        plan = self.plan(order, site)
        pods = StepPod(plan=plan)
        work = _folder_of(order)
        found = _taken_over(pods, plan.order)
        if found:
            store = next(each for each in plan.order.stores if each.name == plan.order.defaults[0])
            place = OrderPlace(store=store, folder=found[0].metadata.annotations[PLACE])
            for pod in found:
                _log.info("step '%s': pod '%s' of an earlier try goes on", order.step.name, pod.metadata.name)
            return _tried(Tried(order, site, plan, pods, found[0], place, work, again=True), found[1:])
        if plan.order.nodes > 1:
            # Of several pods none can: each would remove what another one has laid.
            sweep(order, site, plan)
        place = hand_over(plan.order, site)
        made = self._made(plan, place)
        for pod in made:
            _log.info("step '%s' runs in pod '%s' of namespace '%s'", order.step.name, pod.metadata.name, pods.where)
        return _tried(Tried(order, site, plan, pods, made[0], place, work), made[1:])

    def _made(self, plan: PodPlan, place: OrderPlace) -> list[Any]:
        """Make the pods of a try: all, or none."""
        made: list[Any] = []
        try:
            for node in range(plan.order.nodes):
                made.append(StepPod(plan=plan, place=place.of_node(node)).make(self.context))
        except BaseException:
            for pod in made:
                with suppress(MlpipeError):
                    StepPod(plan=plan).delete(pod)
            raise
        return made

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
    _lay_folder(work)
    return work


def _lay_folder(work: Path) -> None:
    with system_errors("write", work):
        work.mkdir(parents=True)
        for name in ("stdout.txt", "stderr.txt"):
            (work / name).touch()


def _tried(first: Tried, others: Sequence[Any]) -> Tried:
    """Return the try whose first pod is that of `first`, with the pods of its other nodes."""
    made = []
    for node, pod in enumerate(others, 1):
        work = first.work / f"node-{node}"
        _lay_folder(work)
        made.append(replace(first, pod=pod, place=first.place.of_node(node), work=work))
    return replace(first, others=tuple(made))


def _taken_over(pods: StepPod, order: PodOrder) -> list[Any]:
    """Return the pods of an earlier try that still do what is to be done, and end all others: one try writes at a time.

    Nodes of which one is missing, or has failed, are of no use: what runs on the others waits for it in vain.
    """
    found = pods.found()
    tries: dict[str, dict[str, Any]] = {}
    for pod in found:
        place = (pod.metadata.annotations or {}).get(PLACE)
        if place is not None and pod.metadata.labels.get(ORDER) == order_label(order) and not has_failed(view_of(pod)):
            tries.setdefault(place, {})[pod.metadata.labels.get(NODE, "0")] = pod
    nodes = [str(node) for node in range(order.nodes)]
    taken = next(([made[node] for node in nodes] for made in tries.values() if sorted(made) == sorted(nodes)), [])
    gone = [pod for pod in found if not any(pod is each for each in taken)]
    for pod in gone[1:]:
        pods.delete(pod)
    for pod in gone:
        pods.end(pod)
    return taken
