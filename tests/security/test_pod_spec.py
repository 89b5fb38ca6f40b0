"""What a step's pod may do: no more than it needs, whatever its step says of itself."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlpipe.execution.contract import StepContext
from airflow_mlpipe.execution.pod.order import OrderPlace, PodOrder, PodRun, PodStore
from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings
from airflow_mlpipe.model.step import StepSpec

pytestmark = [pytest.mark.airflow]

CANARY = "c4n4ry"


def pod(**settings: Any) -> dict[str, Any]:
    from kubernetes.client import ApiClient

    from airflow_mlpipe.engine.pods.operator import StepPod
    from airflow_mlpipe.engine.pods.spec import PodPlan

    context = StepContext(
        run_id="r", step_run_id="s", experiment="e", pipeline="p", step="a", workspace="/w", events="/mlpipe/try/e"
    )
    store = PodStore(name="lake", url="s3://lake", options={"endpoint_url": "https://s3.example"})
    order = PodOrder(
        step=StepSpec(id="a", name="a"),
        run=PodRun(run_id="r", step_run_id="s", experiment="e", pipeline="p", workspace="/w"),
        inputs={},
        work="/mlpipe/try",
        own="/mlpipe-own",
        context=context,
        stores=(store,),
        defaults=("lake",),
    )
    plan = PodPlan(
        order=order,
        argv=["python", "main.py"],
        env={"PYTHONUNBUFFERED": "1"},
        image="user:1",
        helper_image="helper:1",
        target=ComputeSpec(name="gpu", kind="kubernetes", kubernetes=KubernetesSettings(**settings)),
        workspace_id="w",
    )
    pods = StepPod(plan=plan, place=OrderPlace(store=store, folder="runs/s/pod/1"))
    pods.hook = SimpleNamespace(get_namespace=lambda: None, is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=1)
    made = pods.build_pod_request_obj({"ti": ti, "run_id": "x", "dag": SimpleNamespace()})
    return ApiClient().sanitize_for_serialization(made)


def test_the_two_ends_have_the_least_rights():
    for container in pod()["spec"]["initContainers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["privileged"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        # As root they read what the step has written as somebody else; Pod Security's baseline allows these.
        assert rights["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]}


def test_where_all_run_as_one_user_they_have_none():
    template = {"spec": {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}}
    made = pod(pod_template=template)
    assert made["spec"]["securityContext"] == template["spec"]["securityContext"]
    for container in made["spec"]["initContainers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_nothing_of_the_host_is_in_a_pod():
    spec = pod()["spec"]
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"))


def test_no_account_of_the_cluster_unless_one_is_named():
    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert pod(service_account="trainer")["spec"]["automountServiceAccountToken"] is True


def test_credentials_are_for_the_two_ends_only_and_never_in_the_specification(monkeypatch):
    monkeypatch.setenv("MLPIPE_DATASTORE_LAKE_SECRET", CANARY)
    made = pod(credentials_secret="lake-keys")
    (base,) = made["spec"]["containers"]
    assert not base.get("envFrom")
    for container in made["spec"]["initContainers"]:
        assert container["envFrom"] == [{"secretRef": {"name": "lake-keys"}}]
    assert CANARY not in json.dumps(made)


def test_the_step_does_not_see_what_the_two_ends_tell_each_other():
    (base,) = pod()["spec"]["containers"]
    assert [mount["mountPath"] for mount in base["volumeMounts"]] == ["/mlpipe"]
    assert not any(each["name"].startswith("MLPIPE_POD") for each in base["env"])
