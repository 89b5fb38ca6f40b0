"""Pods in the cluster of the tests live as they do in a real one. Runs against a real one too."""

from __future__ import annotations

import base64

import pytest
from cluster_pods import container, create, ended, events, log, pod, state, until, waiting_for

pytestmark = [pytest.mark.docker, pytest.mark.k8s]


@pytest.fixture
def image(cluster):
    return cluster.image("busybox")


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (3, "Failed", "Error")])
def test_a_pod_ends_as_its_container_does(cluster, image, code, phase, reason):
    found = ended(cluster, pod(container("base", image, f"echo said; exit {code}")))
    assert found.status.phase == phase
    assert (state(found, "base").terminated.exit_code, state(found, "base").terminated.reason) == (code, reason)
    assert log(cluster, found.metadata.name) == "said\n"
    assert {"Scheduled", "Pulled", "Created", "Started"} <= set(events(cluster, found.metadata.name))


def test_one_that_takes_too_much_memory_is_killed(cluster, image):
    limits = {"limits": {"memory": "32Mi"}}
    found = ended(cluster, pod(container("base", image, "tail /dev/zero", resources=limits)))
    assert state(found, "base").terminated.reason == "OOMKilled"
    assert state(found, "base").terminated.exit_code == 137


def test_a_program_that_is_not_there_cannot_start(cluster, image):
    found = ended(cluster, pod({"name": "base", "image": image, "command": ["no-such-program"]}))
    assert (state(found, "base").terminated.exit_code, state(found, "base").terminated.reason) == (128, "StartError")
    assert "no-such-program" in state(found, "base").terminated.message


def test_an_image_that_is_not_there_is_asked_for_again_and_again(cluster):
    name = create(cluster, pod(container("base", "registry.invalid/no/image:1", "true")))
    until(cluster, name, lambda p: waiting_for(p, "base") == "ErrImagePull")
    found = until(cluster, name, lambda p: waiting_for(p, "base") == "ImagePullBackOff")
    assert found.status.phase == "Pending"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": "registry.invalid/no/image:1", "imagePullPolicy": "Never"}, "ErrImageNeverPull"),
        ({"image": "Not An Image"}, "InvalidImageName"),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
            "CreateContainerConfigError",
        ),
    ],
)
def test_what_can_never_start_says_why(cluster, image, fields, reason):
    name = create(cluster, pod({**container("base", image, "true"), **fields}))
    until(cluster, name, lambda p: waiting_for(p, "base") == reason)


def test_init_containers_run_in_order_and_share_a_volume(cluster, image):
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    inits = [container(f"init-{i}", image, f"echo {i} >> /shared/file", **mounts) for i in range(3)]
    main = container("base", image, "cat /shared/file", **mounts)
    found = ended(cluster, pod(main, initContainers=inits, volumes=[{"name": "shared", "emptyDir": {}}]))
    assert log(cluster, found.metadata.name) == "0\n1\n2\n"
    assert [status.ready for status in found.status.init_container_statuses] == [True] * 3


def test_nothing_runs_after_an_init_container_that_failed(cluster, image):
    inits = [container("first", image, "exit 7"), container("second", image, "true")]
    found = ended(cluster, pod(container("base", image, "true"), initContainers=inits))
    assert found.status.phase == "Failed"
    assert state(found, "first").terminated.exit_code == 7
    assert (waiting_for(found, "second"), waiting_for(found, "base")) == ("PodInitializing", "PodInitializing")


def test_a_pod_is_pending_while_its_init_containers_run(cluster, image):
    made = pod(container("base", image, "true"), initContainers=[container("init", image, "sleep 600")])
    found = until(cluster, create(cluster, made), lambda p: state(p, "init") and state(p, "init").running)
    assert found.status.phase == "Pending"
    cluster.api.delete_namespaced_pod(found.metadata.name, cluster.namespace, grace_period_seconds=0)


def test_containers_of_a_pod_are_not_restarted_unless_it_says_so(cluster, image):
    script = "n=$(cat /shared/n 2>/dev/null || echo 0); echo $((n + 1)) > /shared/n; test $n = 2"
    main = container("base", image, script, volumeMounts=[{"name": "shared", "mountPath": "/shared"}])
    made = pod(main, restartPolicy="OnFailure", volumes=[{"name": "shared", "emptyDir": {}}])
    found = ended(cluster, made, timeout_s=60)
    assert (found.status.phase, found.status.container_statuses[0].restart_count) == ("Succeeded", 2)


def test_a_pod_that_takes_too_long_fails_for_that_reason(cluster, image):
    found = ended(cluster, pod(container("base", image, "exec sleep 600"), activeDeadlineSeconds=1,
                               terminationGracePeriodSeconds=1))  # fmt: skip
    assert (found.status.phase, found.status.reason) == ("Failed", "DeadlineExceeded")


def test_a_deleted_pod_gets_a_signal_and_its_time(cluster, image):
    script = "trap 'echo asked; sleep 1; echo done; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    name = create(cluster, pod(container("base", image, script), terminationGracePeriodSeconds=20))
    until(cluster, name, lambda p: p.status.phase == "Running")
    stream = cluster.api.read_namespaced_pod_log(name, cluster.namespace, follow=True, _preload_content=False)
    lines = iter(stream.stream(64))
    said = next(lines)
    deleted = cluster.api.delete_namespaced_pod(name, cluster.namespace)
    assert deleted.metadata.deletion_timestamp is not None
    assert (said + b"".join(lines)).split() == [b"up", b"asked", b"done"]
    until_gone(cluster, name)


def test_one_that_does_not_listen_is_killed_when_its_time_is_over(cluster, image):
    name = create(cluster, pod(container("base", image, "trap '' TERM; while :; do sleep 1; done"),
                               terminationGracePeriodSeconds=1))  # fmt: skip
    until(cluster, name, lambda p: p.status.phase == "Running")
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    until_gone(cluster, name)


def test_variables_come_from_everywhere(cluster, image):
    space = cluster.namespace
    cluster.api.create_namespaced_secret(space, {"metadata": {"name": "s"}, "data": {"KEY": _coded("hidden é")}})
    cluster.api.create_namespaced_config_map(space, {"metadata": {"name": "c"}, "data": {"KEY": "shown", "OTHER": "x"}})
    env = [
        {"name": "PLAIN", "value": "a $(KEY) $(NOT) $$(KEY) $"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "KEY"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}},
        {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
    ]
    script = 'printf "%s\\n" "$PLAIN" "$SECRET" "$LABEL" "$SPACE" "${NONE-unset}" "$KEY" "$IN_OTHER" "$@"'
    main = container("base", image, script, env=env, args=["sh", "$(KEY)", "$(date)", "$$x"])
    main["envFrom"] = [{"secretRef": {"name": "s"}}, {"prefix": "IN_", "configMapRef": {"name": "c"}}]
    found = ended(cluster, pod(main, labels={"a.b/c": "d"}))
    said = log(cluster, found.metadata.name).splitlines()
    assert said[:6] == ["a hidden é $(NOT) $(KEY) $", "hidden é", "d", space, "unset", "hidden é"]
    assert said[6:] == ["x", "hidden é", "$(date)", "$x"]


def test_volumes_of_every_kind(cluster, image):
    space = cluster.namespace
    cluster.api.create_namespaced_secret(space, {"metadata": {"name": "vs"}, "stringData": {"key": "secret"}})
    cluster.api.create_namespaced_config_map(space, {"metadata": {"name": "vc"}, "data": {"key": "shown"}})
    claim = {"metadata": {"name": "vp"}, "spec": {"accessModes": ["ReadWriteOnce"],
             "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip
    cluster.api.create_namespaced_persistent_volume_claim(space, claim)
    volumes = [
        {"name": "secret", "secret": {"secretName": "vs", "items": [{"key": "key", "path": "a/b"}]}},
        {"name": "config", "configMap": {"name": "vc"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "vp"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes[:3]]
    mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    script = "cat /v/secret/a/b /v/config/key; echo kept > /v/claim/file; df -m /dev/shm | tail -1 | awk '{print $2}'"
    found = ended(cluster, pod(container("base", image, script, volumeMounts=mounts), volumes=volumes))
    assert log(cluster, found.metadata.name) == "secretshown16\n"
    again = container("base", image, "cat /v/claim/file", volumeMounts=[mounts[2]])
    found = ended(cluster, pod(again, volumes=[volumes[2]]))
    assert log(cluster, found.metadata.name) == "kept\n"


def test_who_a_container_runs_as(cluster, image):
    security = {"runAsUser": 1234, "runAsGroup": 99, "fsGroup": 77}
    main = container("base", image, "id; echo x > /shared/f && stat -c %g /shared/f",
                     volumeMounts=[{"name": "shared", "mountPath": "/shared"}])  # fmt: skip
    found = ended(cluster, pod(main, securityContext=security, volumes=[{"name": "shared", "emptyDir": {}}]))
    said = log(cluster, found.metadata.name)
    assert "uid=1234 gid=99" in said
    assert said.splitlines()[-1] == "77"


def test_what_a_container_says_last(cluster, image):
    found = ended(cluster, pod(container("base", image, "echo the end > /dev/termination-log")))
    assert state(found, "base").terminated.message == "the end\n"
    main = container("base", image, "echo why; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    assert state(ended(cluster, pod(main)), "base").terminated.message == "why\n"


def test_a_pods_own_account_may_do_nothing(cluster, image):
    """As in a real cluster where nobody has given it a role."""
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    found = ended(cluster, pod(container("base", image, f"cat {folder}/namespace; echo; cat {folder}/token")))
    space, token = log(cluster, found.metadata.name).splitlines()
    assert space == cluster.namespace
    from kubernetes import client

    # Not a copy of the default one, which whoever reaches a cluster in this process may have set.
    configuration = client.Configuration()
    configuration.host = cluster.api.api_client.configuration.host
    configuration.ssl_ca_cert = cluster.api.api_client.configuration.ssl_ca_cert
    configuration.api_key["authorization"] = f"Bearer {token}"
    with client.ApiClient(configuration) as api, pytest.raises(client.ApiException) as refused:
        client.CoreV1Api(api).read_namespaced_pod(found.metadata.name, cluster.namespace)
    assert refused.value.status == 403


def until_gone(cluster, name):
    from kubernetes import watch

    listed = cluster.api.list_namespaced_pod(cluster.namespace, field_selector=f"metadata.name={name}")
    if listed.items:
        stream = watch.Watch().stream(
            cluster.api.list_namespaced_pod,
            cluster.namespace,
            field_selector=f"metadata.name={name}",
            resource_version=listed.metadata.resource_version,
            timeout_seconds=30,
        )
        assert any(event["type"] == "DELETED" for event in stream)


def _coded(text):
    return base64.b64encode(text.encode()).decode()
