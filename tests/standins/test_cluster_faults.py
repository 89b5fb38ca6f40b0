"""What tests can make go wrong in the stand-in, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cluster_site
import psutil
import pytest
from cluster_pods import container, create, ended, events, log, pod, state, until, waiting_for
from kubernetes.client import ApiException
from urllib3.exceptions import ProtocolError

pytestmark = [pytest.mark.docker, pytest.mark.k8s]

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def image(cluster):
    return cluster.image("busybox")


@pytest.mark.parametrize("code", [429, 500, 503])
def test_calls_fail_as_often_as_asked(cluster, image, code):
    cluster.faults.fail("/pods", code=code, times=2, method="GET", after=1)
    codes = []
    for _ in range(5):
        try:
            cluster.api.list_namespaced_pod(cluster.namespace)
            codes.append(200)
        except ApiException as error:
            codes.append(error.status)
    assert codes == [200, code, code, 200, 200]


def test_a_call_is_done_and_its_answer_lost(cluster, image):
    made = pod(container("base", image, "true"))
    cluster.faults.fail("/pods", code=0, done=True, method="POST")
    with pytest.raises(ProtocolError):
        create(cluster, made)
    until(cluster, made["metadata"]["name"], lambda p: p.status.phase == "Succeeded")


def test_a_stream_of_logs_breaks_off(cluster, image):
    found = ended(cluster, pod(container("base", image, "seq 1 1000")))
    cluster.faults.drop_logs(after_bytes=10)
    with pytest.raises(Exception, match=r"(?i)connection broken|incomplete|protocol"):
        log(cluster, found.metadata.name)
    assert len(log(cluster, found.metadata.name).split()) == 1000


def test_a_pod_is_evicted(cluster, image):
    name = create(cluster, pod(container("base", image, "exec sleep 600")))
    until(cluster, name, lambda p: p.status.phase == "Running")
    cluster.faults.evict(name)
    found = until(cluster, name, lambda p: p.status.phase == "Failed")
    assert found.status.reason == "Evicted"
    assert state(found, "base").terminated.exit_code in (137, 143)
    assert "Evicted" in events(cluster, name)


def test_a_pod_vanishes(cluster, image):
    name = create(cluster, pod(container("base", image, "exec sleep 600")))
    until(cluster, name, lambda p: p.status.phase == "Running")
    cluster.faults.vanish(name)
    with pytest.raises(ApiException) as gone:
        cluster.api.read_namespaced_pod(name, cluster.namespace)
    assert gone.value.status == 404


def test_an_image_takes_its_time(cluster, image):
    cluster.faults.slow_pull(image, 1)
    name = create(cluster, pod(container("base", image, "true")))
    until(cluster, name, lambda p: waiting_for(p, "base") == "ContainerCreating")
    until(cluster, name, lambda p: p.status.phase == "Succeeded")


def test_a_pod_is_pending_as_long_as_the_nodes_take_none(cluster, image):
    cluster.faults.cordon()
    name = create(cluster, pod(container("base", image, "true")))
    until(cluster, name, lambda p: "unschedulable" in str(p.status.conditions))
    cluster.faults.clear()
    until(cluster, name, lambda p: p.status.phase == "Succeeded")


def test_a_container_is_killed(cluster, image):
    name = create(cluster, pod(container("base", image, "exec sleep 600")))
    until(cluster, name, lambda p: p.status.phase == "Running")
    cluster.faults.signal(name, "base")
    found = until(cluster, name, lambda p: p.status.phase == "Failed")
    assert (state(found, "base").terminated.exit_code, state(found, "base").terminated.reason) == (137, "Error")


def test_what_was_asked_is_known(cluster, image):
    name = create(cluster, pod(container("base", image, "true")))
    assert cluster.faults.calls()[-1] == f"POST /api/v1/namespaces/{cluster.namespace}/pods"
    until(cluster, name, lambda p: p.status.phase == "Succeeded")


def test_two_clusters_do_not_see_each_other_and_leave_nothing(cluster, docker_engine, image):
    with cluster_site.standin(docker_engine, cluster.images) as other:
        name = create(other, pod(container("base", image, "exec sleep 600"), name="twin"))
        until(other, name, lambda p: p.status.phase == "Running")
        assert len(other.containers()) == 1
        with pytest.raises(ApiException):
            cluster.api.read_namespaced_pod(name, cluster.namespace)
        folder = other.kubeconfig.parent
    assert other.containers() == []
    assert not folder.exists()


def test_without_a_network_containers_of_a_pod_still_share_theirs(docker_engine, cluster, image):
    with cluster_site.standin(docker_engine, cluster.images, "--network", "none") as other:
        serving = container("serve", image, "echo served | nc -l -p 8080")
        asking = container("base", image, "until nc 127.0.0.1 8080; do sleep 0.1; done")
        found = ended(other, pod(asking, serving))
        assert log(other, found.metadata.name, "base").splitlines()[-1] == "served"


def test_it_ends_with_the_process_that_started_it(docker_engine, cluster, tmp_path):
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import cluster_site, container_engine, pathlib; "
        "images = {'busybox': sys.argv[2]}; "
        "site = cluster_site.Standin(container_engine.machine(), pathlib.Path(sys.argv[3]), images); "
        "print(site._process.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(SUPPORT), cluster.image("busybox"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        standin = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        psutil.wait_procs([standin], 20)
    assert not standin.is_running()
