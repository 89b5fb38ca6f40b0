"""Sidecars: init containers that run beside the main ones and end after them. Runs against a real cluster too."""

from __future__ import annotations

import pytest
from cluster_pods import container, create, ended, log, pod, state, until, waiting_for

pytestmark = [pytest.mark.docker, pytest.mark.k8s]

SHARED = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
VOLUMES = {"volumes": [{"name": "shared", "emptyDir": {}}]}
PATIENT = "trap 'echo asked; %s' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture
def image(cluster):
    return cluster.image("busybox")


def sidecar(name, image, script, **fields):
    return container(name, image, script, restartPolicy="Always", **fields)


def test_it_runs_beside_the_others_and_is_asked_to_end_after_them(cluster, image):
    side = sidecar("side", image, PATIENT % "cat /shared/main; sleep 1; echo done; exit 0", **SHARED)
    main = container("base", image, "sleep 1; echo main > /shared/main", **SHARED)
    made = pod(main, initContainers=[side], terminationGracePeriodSeconds=30, **VOLUMES)
    found = ended(cluster, made)
    assert found.status.phase == "Succeeded"
    assert log(cluster, found.metadata.name, "side").split() == ["up", "asked", "main", "done"]
    # The pod has not ended before it.
    assert state(found, "side").terminated.exit_code == 0


@pytest.mark.parametrize(("main", "side", "phase"), [("exit 0", "exit 9", "Succeeded"), ("exit 4", "exit 0", "Failed")])
def test_how_it_ends_does_not_count(cluster, image, main, side, phase):
    made = pod(container("base", image, main), initContainers=[sidecar("side", image, PATIENT % side)])
    assert ended(cluster, made).status.phase == phase


def test_it_has_the_grace_period_and_no_more(cluster, image):
    side = sidecar("side", image, "trap '' TERM; while :; do sleep 0.2; done")
    made = pod(container("base", image, "true"), initContainers=[side], terminationGracePeriodSeconds=2)
    found = ended(cluster, made)
    assert (found.status.phase, state(found, "side").terminated.exit_code) == ("Succeeded", 137)


def test_the_next_containers_wait_until_it_has_started(cluster, image):
    probe = {"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 1}
    script = "sleep 1; touch /shared/ready; exec sleep 600"
    side = sidecar("side", image, script, startupProbe=probe, **SHARED)
    init = container("init", image, "test -e /shared/ready", **SHARED)
    made = pod(
        container("base", image, "true"), initContainers=[side, init], terminationGracePeriodSeconds=1, **VOLUMES
    )
    found = until(cluster, create(cluster, made), lambda p: state(p, "side") and state(p, "side").running)
    if not found.status.init_container_statuses[0].started:
        assert waiting_for(found, "init") == "PodInitializing"
    found = until(cluster, found.metadata.name, lambda p: p.status.phase in ("Succeeded", "Failed"))
    assert found.status.phase == "Succeeded"


def test_one_that_ends_early_is_started_again(cluster, image):
    side = sidecar("side", image, "echo x >> /shared/starts", **SHARED)
    main = container("base", image, "until [ $(grep -c x /shared/starts) -ge 2 ]; do sleep 0.2; done", **SHARED)
    found = ended(cluster, pod(main, initContainers=[side], **VOLUMES), timeout_s=60)
    assert found.status.phase == "Succeeded"
    assert found.status.init_container_statuses[0].restart_count >= 1


def test_the_last_one_is_ended_first(cluster, image):
    sides = [
        sidecar(name, image, f"trap 'echo {name} >> /shared/ends; exit 0' TERM; while :; do sleep 0.1; done", **SHARED)
        for name in ("first", "second")
    ]
    claim = {"metadata": {"name": "ends"}, "spec": {"accessModes": ["ReadWriteOnce"],
             "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip
    cluster.api.create_namespaced_persistent_volume_claim(cluster.namespace, claim)
    volumes = [{"name": "shared", "persistentVolumeClaim": {"claimName": "ends"}}]
    ended(cluster, pod(container("base", image, "sleep 0.5"), initContainers=sides, volumes=volumes))
    read = ended(cluster, pod(container("base", image, "cat /shared/ends", **SHARED), volumes=volumes))
    assert log(cluster, read.metadata.name).split() == ["second", "first"]


def test_when_the_pod_is_deleted_it_outlives_the_main_containers(cluster, image):
    side = sidecar("side", image, PATIENT % "cat /shared/main; exit 0", **SHARED)
    main = container(
        "base", image, "trap 'echo late > /shared/main; exit 0' TERM; while :; do sleep 0.1; done", **SHARED
    )
    name = create(cluster, pod(main, initContainers=[side], terminationGracePeriodSeconds=20, **VOLUMES))
    until(cluster, name, lambda p: p.status.phase == "Running")
    answer = cluster.api.read_namespaced_pod_log(
        name, cluster.namespace, container="side", follow=True, _preload_content=False
    )
    lines = answer.stream(64)
    said = next(lines)
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    assert (said + b"".join(lines)).split() == [b"up", b"asked", b"late"]


def test_containers_can_share_their_processes(cluster, image):
    side = sidecar("side", image, "until ps | grep -q [m]arked-sleep; do sleep 0.1; done; echo seen; exec sleep 600")
    main = container("base", image, "sleep 2; : marked-sleep")
    made = pod(main, initContainers=[side], shareProcessNamespace=True, terminationGracePeriodSeconds=1)
    found = ended(cluster, made)
    assert found.status.phase == "Succeeded"
    assert log(cluster, found.metadata.name, "side") == "seen\n"
    # The cluster makes one of two dollars.
    alone = ended(cluster, pod(container("base", image, "echo $$$$")))
    assert log(cluster, alone.metadata.name) == "1\n"
