"""What the cluster of the tests refuses, changes and lists, as the official client sees it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml
from cluster_pods import container, create, ended, pod, until

pytestmark = [pytest.mark.docker, pytest.mark.k8s]


@pytest.fixture
def image(cluster):
    return cluster.image("busybox")


def with_field(made, path, value):
    *parents, last = path.split(".")
    target = made
    for name in parents:
        target = target[int(name) if name.isdigit() else name]
    target[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("metadata.name", "Not_A_Name", 422),
        ("metadata.labels", {"a": "not a value"}, 422),
        ("metadata.labels", {"not a key": "a"}, 422),
        ("spec.containers", [], 422),
        ("spec.containers.0.name", "UPPER", 422),
        ("spec.containers.0.image", "", 422),
        ("spec.containers.0.env", [{"name": "1=2", "value": "x"}], 422),
        ("spec.containers.0.volumeMounts", [{"name": "none", "mountPath": "/x"}], 422),
        ("spec.containers.0.resources", {"limits": {"memory": "much"}}, 422),
        ("spec.containers.0.resources", {"limits": {"nvidia.com/gpu": "0.5"}}, 422),
        ("spec.containers.0.resources", {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}, 422),
        ("spec.serviceAccountName", "nobody", 403),
        ("metadata.namespace", "another", 400),
    ],
)
def test_a_pod_that_is_none_is_refused(cluster, image, path, value, code):
    from kubernetes.client import ApiException

    made = with_field(pod(container("base", image, "true")), path, value)
    with pytest.raises(ApiException) as refused:
        create(cluster, made)
    assert refused.value.status == code


def test_a_field_that_nobody_knows_is_refused_not_dropped(cluster, image):
    from kubernetes.client import ApiException

    made = with_field(pod(container("base", image, "true")), "spec.containers.0.imagePulPolicy", "Always")
    with pytest.raises(ApiException, match="imagePulPolicy") as refused:
        cluster.api.create_namespaced_pod(cluster.namespace, made, field_validation="Strict")
    assert refused.value.status in (400, 422)


def test_names_are_given_once_and_made_up_on_demand(cluster, image):
    from kubernetes.client import ApiException

    made = pod(container("base", image, "true"))
    name = create(cluster, made)
    with pytest.raises(ApiException) as refused:
        create(cluster, {**made, "metadata": {"name": name}})
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    found = {create(cluster, {**made, "metadata": {"generateName": "some-"}}) for _ in range(3)}
    assert len(found) == 3
    assert all(name.startswith("some-") for name in found)


def test_labels_change_and_a_pods_spec_does_not(cluster, image):
    from kubernetes.client import ApiException

    name = create(cluster, pod(container("base", image, "true"), labels={"a": "1", "b": "2"}))
    found = cluster.api.patch_namespaced_pod(name, cluster.namespace, {"metadata": {"labels": {"a": "3", "b": None}}})
    assert found.metadata.labels == {"a": "3"}
    with pytest.raises(ApiException) as refused:
        cluster.api.patch_namespaced_pod(name, cluster.namespace, {"spec": {"restartPolicy": "Always"}})
    assert refused.value.status == 422
    with pytest.raises(ApiException) as refused:
        cluster.api.patch_namespaced_pod(name, cluster.namespace, {"metadata": {"resourceVersion": "1"}})
    assert refused.value.status == 409


def test_pods_are_found_by_labels_and_deleted_together(cluster, image):
    for index in range(3):
        create(cluster, pod(container("base", image, "exec sleep 600"), labels={"set": "s", "i": str(index)}))

    def listed(selector, **options):
        return len(cluster.api.list_namespaced_pod(cluster.namespace, label_selector=selector, **options).items)

    counts = {"set=s": 3, "set=s,i!=0": 2, "set=s,i in (0, 1)": 2, "set=s,i notin (0)": 2, "set,!i": 0, "set==s,i": 3}
    assert {selector: listed(selector) for selector in counts} == counts
    assert listed("set=s", field_selector="status.phase=Succeeded") == 0
    cluster.api.delete_collection_namespaced_pod(cluster.namespace, label_selector="set=s", grace_period_seconds=0)
    from kubernetes import watch

    if version := cluster.api.list_namespaced_pod(cluster.namespace).metadata.resource_version:
        for _ in watch.Watch().stream(
            cluster.api.list_namespaced_pod, cluster.namespace, label_selector="set=s",
            resource_version=version, timeout_seconds=20,
        ):  # fmt: skip
            if listed("set=s") == 0:
                break
    assert listed("set=s") == 0


def test_a_watch_sees_what_begins_and_ceases_to_be_meant(cluster, image):
    from kubernetes import watch

    version = cluster.api.list_namespaced_config_map(cluster.namespace).metadata.resource_version
    cluster.api.create_namespaced_config_map(cluster.namespace, {"metadata": {"name": "w", "labels": {"see": "no"}}})
    for value in ("yes", "no"):
        cluster.api.patch_namespaced_config_map("w", cluster.namespace, {"metadata": {"labels": {"see": value}}})
    cluster.api.delete_namespaced_config_map("w", cluster.namespace)
    events = watch.Watch().stream(
        cluster.api.list_namespaced_config_map, cluster.namespace, label_selector="see=yes",
        resource_version=version, timeout_seconds=1,
    )  # fmt: skip
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


def test_logs_in_part(cluster, image):
    found = ended(cluster, pod(container("base", image, "seq 1 100")))

    def log(**options):
        answer = cluster.api.read_namespaced_pod_log(
            found.metadata.name, cluster.namespace, _preload_content=False, **options
        )
        return answer.data.decode()

    assert log(tail_lines=2) == "99\n100\n"
    assert log(limit_bytes=4) == "1\n2\n"
    stamp, number = log(tail_lines=1, timestamps=True).split()
    assert stamp.startswith("2")
    assert number == "100"


def test_an_eviction_by_the_api_deletes(cluster, image):
    from kubernetes.client import ApiException

    name = create(cluster, pod(container("base", image, "exec sleep 600"), terminationGracePeriodSeconds=1))
    until(cluster, name, lambda p: p.status.phase == "Running")
    body = {"metadata": {"name": name}, "deleteOptions": {"gracePeriodSeconds": 0}}
    cluster.api.create_namespaced_pod_eviction(name, cluster.namespace, body)
    with pytest.raises((ApiException, AssertionError)):
        until(cluster, name, lambda p: not p.metadata.deletion_timestamp, timeout_s=2)


def test_stock_kubectl(cluster, image):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: apt-get install kubernetes-client")

    def kubectl(*words, **options):
        command = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "-n", cluster.namespace, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)

    made = pod(
        container("base", image, "echo begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo over"), name="stock"
    )
    document = yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **made})
    created = kubectl("create", "-f", "-", input=document)
    assert created.stdout == "pod/stock created\n", created.stderr
    assert kubectl("wait", "--for=condition=Ready", "pod/stock", "--timeout=30s").returncode == 0
    shown = kubectl("get", "pod", "stock", "-o", "jsonpath={.status.phase} {.spec.containers[0].name}")
    assert shown.stdout == "Running base"
    ran = kubectl("exec", "-i", "stock", "--", "sh", "-c", "cat; echo aside >&2; exit 4", input="given")
    assert (ran.returncode, ran.stdout) == (4, "given")
    assert ran.stderr.startswith("aside\n")
    assert kubectl("exec", "stock", "--", "touch", "/tmp/go").returncode == 0
    assert kubectl("logs", "-f", "stock").stdout == "begun\nover\n"
    assert "Started" in kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").stdout
    assert kubectl("delete", "pod", "stock").stdout.startswith('pod "stock" deleted')
    assert "NotFound" in kubectl("get", "pod", "stock").stderr
