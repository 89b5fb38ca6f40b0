"""The specification of a step's pod, as the official client's models have it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.contract import ContextInput, ContextOutput, StepContext
from airflow_mlpipe.execution.pod.order import OrderPlace, PodInput, PodOrder, PodRun, PodStore
from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings, Resources
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.step import StepSpec

pytestmark = [pytest.mark.airflow]

WORKSPACE = "/data/site/.mlpipe"
PLACE = OrderPlace(store=PodStore(name="lake", url="s3://lake/team"), folder="runs/s/pod/1")
STORES = f"{WORKSPACE}/stores/store"


def order(**step: Any) -> PodOrder:
    data = DatasetSpec(kind="file", sources=(DatastorePath(datastore="store", path="raw"),))
    given = {"inputs": (InputSpec(name="data", source=data),), "outputs": (OutputSpec(name="out", datastore="store"),)}
    made = StepSpec(**{"id": "a", "name": "My step!", **given, **step})
    laid = f"{STORES}/raw"
    context = StepContext(
        run_id="r",
        step_run_id="s",
        experiment="e",
        pipeline="p",
        step="a",
        workspace=WORKSPACE,
        inputs={"data": ContextInput(path=laid, value=laid)},
        outputs={"out": ContextOutput(path=f"{STORES}/azureml/s/out", datastore="store", kind="data")},
        events="/mlpipe/try/events.jsonl",
    )
    return PodOrder(
        step=made,
        run=PodRun(run_id="r", step_run_id="s", experiment="e", pipeline="p", workspace=WORKSPACE),
        inputs={"data": PodInput(digest="b3:1")},
        work="/mlpipe/try",
        own="/mlpipe-own",
        context=context,
        laid={"data": laid},
        stores=(PLACE.store,),
        defaults=("lake",),
    )


def plan(settings: dict[str, Any] | None = None, resources: Resources | None = None, **fields: Any) -> Any:
    from airflow_mlpipe.engine.pods.spec import PodPlan

    target = ComputeSpec(
        name="gpu",
        kind="kubernetes",
        resources=resources or Resources(),
        kubernetes=KubernetesSettings(**(settings or {})),
    )
    given = {"argv": ["python", "main.py"], "env": {}, "image": "user:1", "helper_image": "helper:1"}
    return PodPlan(**{"order": order(), "target": target, "workspace_id": "w-1", **given, **fields})


def made(**options: Any) -> dict[str, Any]:
    """The pod as it is sent, with the operator's own part and the target's template."""
    from airflow_mlpipe.engine.pods.operator import StepPod

    pods = StepPod(plan=plan(**options), place=PLACE)
    pods.hook = SimpleNamespace(get_namespace=lambda: None, is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=1)
    pod = pods.build_pod_request_obj({"ti": ti, "run_id": "x", "dag": SimpleNamespace()})
    from kubernetes.client import ApiClient

    return ApiClient().sanitize_for_serialization(pod)


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in [*pod["spec"]["containers"], *pod["spec"]["initContainers"]] if c["name"] == name)


def test_the_collector_is_a_sidecar_that_is_there_before_staging_ends():
    pod = made()
    collect, stage = pod["spec"]["initContainers"]
    assert (collect["name"], collect["restartPolicy"]) == ("mlpipe-collect", "Always")
    assert (stage["name"], stage.get("restartPolicy")) == ("mlpipe-stage", None)
    assert pod["spec"]["restartPolicy"] == "Never"
    assert made(settings={"collect_timeout_s": 90})["spec"]["terminationGracePeriodSeconds"] == 90


def test_the_pod_is_found_by_workspace_run_and_step_run():
    labels = made()["metadata"]["labels"]
    found = {name: value for name, value in labels.items() if name.startswith("airflow-mlpipe/")}
    assert found.pop("airflow-mlpipe/order")
    assert found == {"airflow-mlpipe/workspace": "w-1", "airflow-mlpipe/run": "r", "airflow-mlpipe/step-run": "s"}
    assert made()["metadata"]["name"].startswith("mlpipe-my-step-")


def test_what_a_gpu_step_asks_for():
    settings = {
        "node_selector": {"pool": "gpu"},
        "tolerations": ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
        ]}}},
        "image_pull_secrets": ("registry",),
        "service_account": "trainer",
    }  # fmt: skip
    resources = Resources(cpus=1.5, memory_bytes=2**30, gpus=2, shm_size_bytes=2**26)
    pod = made(settings=settings, resources=resources)
    base = container(pod, "base")
    wanted = {"cpu": "1.5", "memory": str(2**30), "nvidia.com/gpu": "2"}
    assert base["resources"] == {"limits": wanted, "requests": wanted}
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pod["spec"]["tolerations"] == list(settings["tolerations"])
    assert pod["spec"]["affinity"] == settings["affinity"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["serviceAccountName"] == "trainer"
    (shm,) = [v for v in pod["spec"]["volumes"] if v["name"] == "mlpipe-shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": str(2**26)}
    assert {"name": "mlpipe-shm", "mountPath": "/dev/shm"} in base["volumeMounts"]


def test_a_step_asks_for_itself_what_its_target_leaves_open():
    pod = made(resources=Resources(cpus=1, gpus=1), order=order(resources=Resources(gpus=4)))
    assert container(pod, "base")["resources"]["limits"] == {"cpu": "1", "nvidia.com/gpu": "4"}


def test_all_gpus_are_refused():
    with pytest.raises(ConfigError, match="a pod asks for a number of GPUs"):
        made(resources=Resources(gpus=-1))


@pytest.mark.parametrize("text", ["$(HOME)", "$$(HOME)", "a$$b", "$", "$x $(", "{{ 7*7 }}", "run.sh", 'it\'s "q"'])
def test_no_text_of_a_user_is_read_as_something_else(text):
    pod = made(argv=["echo", text], env={"V": text})
    base = container(pod, "base")
    assert expanded(base["command"][1]) == text
    assert expanded(base["env"][0]["value"]) == text


def expanded(text: str) -> str:
    """What Kubernetes makes of a text that names no variable it knows."""
    out, at = "", 0
    while at < len(text):
        if text[at : at + 2] == "$$":
            out, at = out + "$", at + 2
        elif text[at : at + 2] == "$(" and ")" in text[at:]:
            raise AssertionError(f"a variable is read in {text!r}")
        else:
            out, at = out + text[at], at + 1
    return out


def test_a_variable_that_kubernetes_does_not_take_is_left_out():
    assert [each["name"] for each in container(made(env={"a b": "1", "OK": "2"}), "base")["env"]] == ["OK"]


def test_a_template_is_laid_under_and_widens_no_rights():
    from odd_texts import ODD

    template = {
        "metadata": {"labels": {"team": "ml"}, "annotations": {"karpenter.sh/do-not-disrupt": "true", "note": ODD}},
        "spec": {
            "automountServiceAccountToken": True,
            "shareProcessNamespace": True,
            "containers": [{"name": "base", "env": [{"name": "FROM_TEMPLATE", "value": "1"}]}],
            "priorityClassName": "high",
        },
    }
    pod = made(settings={"pod_template": template}, env={"OURS": "2"})
    assert (pod["spec"]["priorityClassName"], pod["metadata"]["labels"]["team"]) == ("high", "ml")
    assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert pod["metadata"]["annotations"]["note"] == ODD
    assert {"FROM_TEMPLATE", "OURS"} <= {each["name"] for each in container(pod, "base")["env"]}
    assert container(pod, "base")["image"] == "user:1"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "shareProcessNamespace" not in pod["spec"]


def test_the_step_sees_its_inputs_and_its_places_of_the_workspace_and_nothing_else():
    from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume

    pod = made(volume=WorkspaceVolume("pvc:workspace", WORKSPACE))
    mounts = {m["mountPath"]: m for m in container(pod, "base")["volumeMounts"] if m["name"] == "mlpipe-workspace"}
    assert {path: (m["subPath"], m.get("readOnly", False)) for path, m in mounts.items()} == {
        f"{STORES}/raw": ("stores/store/raw", True),
        f"{STORES}/azureml/s": ("stores/store/azureml/s", False),
    }
    assert container(pod, "mlpipe-stage")["volumeMounts"][-1] == {"name": "mlpipe-workspace", "mountPath": WORKSPACE}


@pytest.mark.parametrize("source", ["pvc:", "host:relative", "nfs:x", ""])
def test_a_volume_of_another_form_is_refused(source):
    from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume

    with pytest.raises(ConfigError, match="allowed are 'pvc:NAME' and 'host:/PATH'"):
        made(volume=WorkspaceVolume(source, WORKSPACE))


def test_an_input_is_had_at_an_absolute_place():
    data = DatasetSpec(kind="file", sources=(DatastorePath(datastore="lake", path="raw"),))
    document = order(inputs=(InputSpec(name="data", source=data, path_on_compute="/data/in"),))
    pod = made(order=document.model_copy(update={"laid": {"data": "/mlpipe/try/inputs/data"}}))
    assert container(pod, "base")["volumeMounts"][-1] == {
        "name": "mlpipe-files",
        "mountPath": "/data/in",
        "subPath": "try/inputs/data",
    }


def test_a_pod_without_a_follower_ends_by_itself():
    assert "activeDeadlineSeconds" not in made()["spec"]
    settings = {"startup_timeout_s": 1, "staging_timeout_s": 2, "collect_timeout_s": 3}
    pod = made(settings=settings, order=order(timeout_s=100.0))
    assert pod["spec"]["activeDeadlineSeconds"] == 166


def test_a_cluster_that_knows_no_sidecars_is_told_apart_by_the_pod_that_it_makes():
    from kubernetes.client import ApiClient
    from kubernetes.client import models as k8s

    from airflow_mlpipe.engine.pods.operator import StepPod

    deleted = []

    def create(body: dict[str, Any], namespace: str, **_: Any) -> k8s.V1Pod:
        for each in body["spec"]["initContainers"]:
            each.pop("restartPolicy", None)
        body["metadata"]["namespace"] = namespace
        return ApiClient()._ApiClient__deserialize_model(body, k8s.V1Pod)

    pods = StepPod(plan=plan(), place=PLACE)
    pods.hook = SimpleNamespace(get_namespace=lambda: None, is_in_cluster=False)
    pods.client = SimpleNamespace(
        api_client=ApiClient(),
        create_namespaced_pod=create,
        delete_namespaced_pod=lambda name, namespace, **_: deleted.append(name),
    )
    ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=1)
    with pytest.raises(ConfigError, match=r"does not know sidecar containers.* Kubernetes 1\.29"):
        pods.make({"ti": ti, "run_id": "x", "dag": SimpleNamespace()})
    assert len(deleted) == 1


def test_nothing_is_a_template_of_airflow():
    from airflow_mlpipe.engine.pods.operator import StepPod

    assert (tuple(StepPod.template_fields), tuple(StepPod.template_ext)) == ((), ())


def test_a_node_of_several_says_which_it_is_and_writes_to_a_place_of_its_own():
    from airflow_mlpipe.engine.pods.spec import pod_of
    from airflow_mlpipe.engine.pods.volumes import WorkspaceVolume

    two = plan(
        order=order(distribution=Distribution(kind="pytorch", nodes=2)),
        volume=WorkspaceVolume("pvc:site", WORKSPACE),
    )
    pod = pod_of(two, PLACE.of_node(1))
    assert pod.metadata.labels["airflow-mlpipe/node"] == "1"
    stage = next(each for each in pod.spec.init_containers if each.name == "mlpipe-stage")
    env = {each.name: each for each in stage.env}
    assert env["MLPIPE_POD_ADDRESS"].value_from.field_ref.field_path == "status.podIP"
    assert env["MLPIPE_POD_PATIENCE_S"].value == "5400"
    mounts = {mount.mount_path: mount.sub_path for mount in pod.spec.containers[0].volume_mounts}
    assert mounts[f"{STORES}/azureml/s"] == "stores/store/azureml/s/.nodes/1"
    assert mounts[f"{STORES}/raw"] == "stores/store/raw"
    one = pod_of(plan(), PLACE)
    assert "airflow-mlpipe/node" not in one.metadata.labels
    assert not any(each.name == "MLPIPE_POD_ADDRESS" for each in one.spec.init_containers[1].env)
