"""The operator underneath: it makes a step's pod, finds it again, and ends it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes import client as k8s_client
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_mlpipe.engine.pods.asking import CALL_S, asking_once, delete_pod
from airflow_mlpipe.engine.pods.spec import COLLECT, PREFIX, PodPlan, pod_of
from airflow_mlpipe.errors import ConfigError, PermissionDeniedError, ServiceError, UnreachableError
from airflow_mlpipe.execution.pod.order import OrderPlace
from airflow_mlpipe.model.compute import KubernetesSettings

_log = logging.getLogger(__name__)

GRACE_S = 10
"""Seconds that a pod gets which is ended before its time: for its step, and for what is kept of it."""

_GONE_WITHIN_S = 60.0
_LOOK_S = 0.5
_EVENTS = 8
_TAIL_LINES = 20

CHECKED = f"{PREFIX}/kept"
"""Label of a pod that is kept to be looked into: no later try takes it over."""

Answer = TypeVar("Answer")


class StepPod(KubernetesPodOperator):
    """Makes, finds and ends the pod of one step.

    Of the provider's operator it uses how a pod is specified - templates, labels, the site's mutation hook - and how
    the cluster is reached. It never runs by itself: how a pod is waited for, and what happens before it is deleted, is
    decided in :mod:`airflow_mlpipe.engine.pods.carrier`, because the operator would wait for ever for a container
    beside the step, delete a pod before its answer is read, and take a pod that is gone for a success.
    """

    # User text is never a template, and no argument names a file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()

    def __init__(self, *, plan: PodPlan, place: OrderPlace | None = None, **kwargs: Any) -> None:
        """Prepare the pod of `plan`, with its order at `place`; None to find pods only."""
        settings = plan.settings
        node = f"node-{place.node}" if place is not None and plan.order.nodes > 1 else ""
        slug = re.sub(r"[^a-z0-9]+", "-", plan.order.step.name.lower()).strip("-")[:30].strip("-")
        super().__init__(
            task_id=f"pod-{slug or 'step'}",
            name="-".join(filter(None, ("mlpipe", slug, node))),
            namespace=settings.namespace,
            kubernetes_conn_id=settings.conn_id,
            full_pod_spec=None if place is None else pod_of(plan, place),
            pod_template_dict=_template(settings.pod_template),
            do_xcom_push=False,
            durable=False,
            deferrable=False,
            log_events_on_failure=False,
            **kwargs,
        )
        self._plan = plan

    @cached_property
    def client(self) -> k8s_client.CoreV1Api:
        """What asks the cluster; see :func:`asking_once`."""
        return asking_once(super().client)

    def execute(self, context: Any) -> None:
        """Refuse: see the class."""
        raise NotImplementedError("a step's pod is carried by airflow_mlpipe.engine.pods.carrier")

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Return the pod, whose own rights no template widens."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        pod.spec.automount_service_account_token = self._plan.settings.service_account is not None
        pod.spec.share_process_namespace = None
        return pod

    @property
    def where(self) -> str:
        """The namespace of the pods."""
        return namespace_of(self._plan.settings, self.hook)

    def make(self, context: Any) -> k8s.V1Pod:
        """Make the pod and return it as the cluster has it.

        Raises:
            ConfigError: if the cluster refuses it as it is specified.
            ServiceError: if the cluster cannot be reached, or refuses this user.
        """
        wanted = self.build_pod_request_obj(context)

        def create() -> k8s.V1Pod:
            body = self.client.api_client.sanitize_for_serialization(wanted)
            return self.client.create_namespaced_pod(
                body=body, namespace=wanted.metadata.namespace, _request_timeout=CALL_S
            )

        try:
            self.pod = self.ask("make a pod", create)
        except _ExistsError:
            # The answer to an earlier request was lost.
            self.pod = self.ask("look for a pod", lambda: self.look(wanted)) or wanted
        self._check_sidecars(self.pod)
        return self.pod

    def _check_sidecars(self, pod: k8s.V1Pod) -> None:
        """Raise if the cluster does not know sidecars: it has left out what it does not know."""
        collect = next(each for each in pod.spec.init_containers if each.name == COLLECT)
        if collect.restart_policy != "Always":
            self.delete(pod, 0)
            raise ConfigError(
                f"the cluster of connection '{self.kubernetes_conn_id}' does not know sidecar containers (an init "
                "container with restartPolicy Always); steps need Kubernetes 1.29 or later"
            )

    def found(self) -> list[k8s.V1Pod]:
        """Return the pods of this step run, of any try, that nobody has kept to look into.

        Raises:
            ServiceError: if the cluster cannot be reached, or refuses this user.
        """
        where = self.where
        selector = f"{self._selector},{CHECKED}!=True"

        def listed() -> list[k8s.V1Pod]:
            return self.client.list_namespaced_pod(where, label_selector=selector, _request_timeout=CALL_S).items

        return self.ask("list pods", listed)

    @property
    def _selector(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self._plan.labels.items())

    def look(self, pod: k8s.V1Pod) -> k8s.V1Pod | None:
        """Return the pod as it is now, None if it is gone. One request: see ``is_passing`` for what it raises."""
        try:
            seen = self.client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace, _request_timeout=CALL_S)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return seen if seen.metadata.uid == (pod.metadata.uid or seen.metadata.uid) else None

    def look_at(self, pods: Sequence[k8s.V1Pod]) -> list[k8s.V1Pod | None]:
        """Return pods of this step run as they are now, as :meth:`look` does for one of them."""
        if len(pods) == 1:
            return [self.look(pods[0])]
        where = pods[0].metadata.namespace
        listed = self.client.list_namespaced_pod(where, label_selector=self._selector, _request_timeout=CALL_S).items
        there = {pod.metadata.uid: pod for pod in listed}
        return [there.get(pod.metadata.uid) for pod in pods]

    def end(self, pod: k8s.V1Pod, grace_s: int = GRACE_S) -> None:
        """Delete a pod and wait until it is gone. One that is gone is fine.

        Raises:
            ServiceError: if the cluster cannot be reached, or the pod is not gone in time: its node may not answer.
        """
        name, where = pod.metadata.name, pod.metadata.namespace
        self.delete(pod, grace_s)
        deadline = time.monotonic() + grace_s + _GONE_WITHIN_S
        while self.ask("look for a pod", lambda: self.look(pod)) is not None:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"pod '{name}' in namespace '{where}' was deleted and is still there; its node may not answer: "
                    f"kubectl -n {where} describe pod {name}"
                )
            time.sleep(_LOOK_S)

    def delete(self, pod: k8s.V1Pod, grace_s: int = GRACE_S) -> None:
        """Delete a pod. One that is gone is fine; errors are those of :meth:`end`."""
        name, where = pod.metadata.name, pod.metadata.namespace
        self.ask("delete a pod", lambda: delete_pod(self.client, name, where, grace_s))

    def keep(self, pod: k8s.V1Pod) -> None:
        """Leave a pod that has ended to whoever looks into it. Errors are those of :meth:`end`."""
        body = {"metadata": {"labels": {CHECKED: "True"}}}
        name, where = pod.metadata.name, pod.metadata.namespace
        self.ask("label a pod", lambda: self.client.patch_namespaced_pod(name, where, body, _request_timeout=CALL_S))

    def read_log(self, pod: k8s.V1Pod, container: str, *, follow: bool, since_s: int | None, timeout_s: Any) -> Any:
        """Open the log of a container, each line with its time."""
        since = {} if since_s is None else {"since_seconds": since_s}
        return self.client.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=container,
            follow=follow,
            timestamps=True,
            _preload_content=False,
            _request_timeout=timeout_s,
            **since,
        )

    def tail(self, pod: k8s.V1Pod, container: str) -> list[str]:
        """Return the last lines that a container has printed; none if they cannot be had."""
        try:
            # Without the raw answer the client makes text of the bytes' Python form.
            response = self.client.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=container,
                tail_lines=_TAIL_LINES,
                _preload_content=False,
                _request_timeout=CALL_S,
            )
            text = response.data.decode("utf-8", "backslashreplace")
        except (ApiException, HTTPError, OSError):
            return []
        return [line for line in text.splitlines() if line.strip()]

    def events(self, pod: k8s.V1Pod) -> list[str]:
        """Return the last events of a pod, oldest first; none if this user may not read them."""
        selector = f"involvedObject.name={pod.metadata.name}"
        try:
            found = self.client.list_namespaced_event(
                pod.metadata.namespace, field_selector=selector, _request_timeout=CALL_S
            ).items
        except (ApiException, HTTPError, OSError):
            return []
        return [f"{event.reason}: {' '.join((event.message or '').split())}" for event in found[-_EVENTS:]]

    def ask(self, what: str, call: Callable[[], Answer]) -> Answer:
        """Return the answer to a request, asked again while the cluster is busy.

        Raises:
            UnreachableError: if the cluster does not answer.
            PermissionDeniedError: if it refuses this user.
            ConfigError: if it refuses the request as it is.
        """
        try:
            return generic_api_retry(call)()
        except ApiException as error:
            raise self.told(what, error) from error
        except (HTTPError, OSError) as error:
            raise self._silent(what, error) from error

    def told(self, what: str, error: ApiException) -> Exception:
        """Return what an answer of the cluster means."""
        text = f"the cluster of connection '{self.kubernetes_conn_id}' does not {what} in namespace '{self.where}'"
        said = " ".join(str(_message_of(error)).split())
        if not error.status:
            return self._silent(what, said)
        if error.status in (401, 403):
            return PermissionDeniedError(f"{text}: {said}; see the rights in the guide to Kubernetes")
        if error.status == 409 and "already exists" in said:
            return _ExistsError(said)
        if error.status in (400, 404, 422):
            return ConfigError(f"{text}: {said}")
        return UnreachableError(f"{text}: {error.status} {said}")

    def _silent(self, what: str, reason: object) -> UnreachableError:
        return UnreachableError(
            f"the cluster of connection '{self.kubernetes_conn_id}' does not answer ({reason}); cannot {what}"
        )


def namespace_of(settings: KubernetesSettings, hook: Any) -> str:
    """Return the namespace of a target's pods: its own, the connection's, or that of the pod which this process is in.

    Args:
        settings: of the target.
        hook: Airflow's, of its connection.
    """
    inside = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return settings.namespace or hook.get_namespace() or (inside.exists() and inside.read_text()) or "default"


def _template(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a template as a whole pod; it may be the specification alone, and may name no container."""
    if given is None:
        return None
    whole = given if "spec" in given else {"spec": given}
    return {**whole, "spec": {"containers": [], **whole["spec"]}}


class _ExistsError(Exception):
    """There is a pod of that name."""


def _message_of(error: ApiException) -> str:
    import json

    try:
        return json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        return error.reason or ""
