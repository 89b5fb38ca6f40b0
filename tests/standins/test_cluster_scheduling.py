"""Where pods are put in the stand-in: selectors, taints, GPUs that are counted."""

from __future__ import annotations

import pytest
from cluster_pods import container, create, ended, pod, until

pytestmark = [pytest.mark.docker, pytest.mark.k8s]

GPU = {"limits": {"nvidia.com/gpu": "1"}}
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture
def image(cluster):
    if not cluster.is_standin:
        pytest.skip("the nodes of a real cluster are its own")
    return cluster.image("busybox")


def unscheduled_for(found):
    conditions = found.status.conditions or []
    return next((c.message for c in conditions if c.type == "PodScheduled" and c.status == "False"), None)


def test_a_plain_pod_stays_off_the_gpus(cluster, image):
    assert ended(cluster, pod(container("base", image, "true"))).spec.node_name == "standin-plain"


@pytest.mark.parametrize(
    "spec",
    [
        {"tolerations": [TOLERATION]},
        {"tolerations": [{"key": "nvidia.com/gpu", "value": "present"}], "nodeSelector": {"accelerator": "nvidia"}},
        {"tolerations": [{"operator": "Exists"}]},
    ],
)
def test_one_that_asks_for_a_gpu_and_tolerates_the_taint_gets_its_node(cluster, image, spec):
    found = ended(cluster, pod(container("base", image, "true", resources=GPU), **spec))
    assert found.spec.node_name == "standin-gpu"
    # A limit alone is a request too.
    assert found.spec.containers[0].resources.requests == {"nvidia.com/gpu": "1"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"resources": GPU},
            "1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {nvidia.com/gpu: present}",
        ),
        ({"nodeSelector": {"zone": "none"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        ({"resources": {"requests": {"cpu": "64"}}}, "1 Insufficient cpu"),
    ],
)
def test_one_that_fits_nowhere_waits_and_says_why(cluster, image, spec, reason):
    resources = spec.pop("resources", {})
    name = create(cluster, pod(container("base", image, "true", resources=resources), **spec))
    found = until(cluster, name, unscheduled_for)
    assert reason in unscheduled_for(found)
    assert found.status.phase == "Pending"


def test_gpus_are_given_once(cluster, image):
    two = {"limits": {"nvidia.com/gpu": "2"}}
    first = create(cluster, pod(container("base", image, "exec sleep 600", resources=two), tolerations=[TOLERATION]))
    until(cluster, first, lambda p: p.status.phase == "Running")
    second = create(cluster, pod(container("base", image, "true", resources=GPU), tolerations=[TOLERATION]))
    assert "Insufficient nvidia.com/gpu" in unscheduled_for(until(cluster, second, unscheduled_for))
    cluster.api.delete_namespaced_pod(first, cluster.namespace, grace_period_seconds=0)
    until(cluster, second, lambda p: p.status.phase == "Succeeded")


def test_affinity_to_nodes(cluster, image):
    def affinity(operator):
        term = {"matchExpressions": [{"key": "accelerator", "operator": operator, "values": ["nvidia"]}]}
        rule = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        return {"affinity": {"nodeAffinity": rule}, "tolerations": [TOLERATION]}

    nodes = [
        ended(cluster, pod(container("base", image, "true"), **affinity(o))).spec.node_name for o in ("In", "NotIn")
    ]
    assert nodes == ["standin-gpu", "standin-plain"]


def test_a_claim_that_is_not_there_keeps_a_pod_waiting(cluster, image):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "later"}}]
    name = create(cluster, pod(container("base", image, "true"), volumes=volumes))
    assert 'persistentvolumeclaim "later" not found' in unscheduled_for(until(cluster, name, unscheduled_for))
    claim = {"metadata": {"name": "later"}, "spec": {"accessModes": ["ReadWriteOnce"],
             "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip
    cluster.api.create_namespaced_persistent_volume_claim(cluster.namespace, claim)
    until(cluster, name, lambda p: p.status.phase == "Succeeded")
