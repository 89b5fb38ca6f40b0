"""What goes wrong with a pod, and what its step says then: nothing that fails looks like a success."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_site import Cluster
from engine_site import eventually, shell
from pod_site import TARGET, PodSite, meanwhile, pod_site, target

from airflow_mlpipe.errors import ConfigError, ExecutionError, StepFailedError, StepStoppedError
from airflow_mlpipe.model.compute import Resources

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodSite]:
    monkeypatch.setenv("AIRFLOW__WORKERS__API_RETRY_WAIT_MIN", "0.1")
    with pod_site(tmp_path, cluster) as made:
        yield made


def step(line: str, **fields):
    return shell("a", line, compute=TARGET, **fields)


WRITE = "echo printed; echo kept > outputs/note.txt; echo made > @out"


def test_exit_3_is_a_failure_with_what_it_printed_and_left(site):
    with pytest.raises(StepFailedError, match="exited with code 3") as caught:
        site.go(step(f"{WRITE} ; exit 3"))
    assert caught.value.last_lines == ("printed",)
    assert (site.row.exit_code, site.row.result_id) == (3, None)
    assert site.kept("logs/mlpipe/stdout.txt") == "printed\n"
    assert site.kept("outputs/note.txt") == "kept\n"
    assert not list((site.dir / "stores/store/azureml").glob("*/out"))


def test_a_step_that_takes_too_much_memory_says_so_and_keeps_what_it_left(site, cluster):
    target(site, cluster, Resources(memory_bytes=24 * 2**20))
    with pytest.raises(StepFailedError, match=r"killed by signal 9; it took more memory than its limit of 25,165,824"):
        site.go(
            step("echo kept > outputs/note.txt; x=$(cat /dev/zero | tr '\\0' 'x' | head -c 200000000); echo > @out")
        )
    assert site.kept("outputs/note.txt") == "kept\n"


def test_a_missing_image_fails_at_once_and_is_named(site, cluster):
    target(site, cluster, image="mlpipe-tests/no-such-image:1")
    with pytest.raises(
        ConfigError, match=f"'{TARGET}': image 'mlpipe-tests/no-such-image:1' cannot be pulled"
    ) as caught:
        site.go(step(WRITE))
    assert "\n" not in caught.value.message


def test_a_command_that_is_not_there_is_told(site):
    with pytest.raises(StepFailedError, match=r"exited with code 128; .*no-such-command"):
        site.go(shell("a", "no-such-command @out", compute=TARGET, shell=False))


def test_a_pod_that_no_node_takes_is_given_up_in_time(site, cluster):
    target(site, cluster, startup_timeout_s=2)
    cluster.faults.cordon()
    with pytest.raises(ExecutionError, match=r"was not started.* within 2 s; see startup_timeout_s of .*'cluster': "):
        site.go(step(WRITE))


def test_an_evicted_pod_fails_with_its_reason(site, cluster):
    with meanwhile(lambda: site.go(step(f"{WRITE} ; sleep 60"))) as ending:
        cluster.faults.evict(site.running(ending).metadata.name)
        with pytest.raises(ExecutionError, match=r"was ended before its time: Evicted: The node was low on resource"):
            ending.result(60)
    assert site.row.result_id is None


def test_a_pod_that_somebody_deletes_is_no_success_even_if_it_ends_well(site, cluster):
    line = f"trap 'exit 0' TERM; {WRITE} ; touch outputs/up; while :; do sleep 0.1; done"
    with meanwhile(lambda: site.go(step(line))) as ending:
        name = site.running(ending).metadata.name
        eventually(lambda: "printed" in site.lines)
        cluster.api.delete_namespaced_pod(name, cluster.namespace)
        with pytest.raises(ExecutionError, match=r"was ended before its time: somebody has deleted it|is gone"):
            ending.result(60)
    assert site.row.result_id is None


def test_a_pod_that_vanishes_is_told(site, cluster):
    with meanwhile(lambda: site.go(step(f"{WRITE} ; sleep 60"))) as ending:
        cluster.faults.vanish(site.running(ending).metadata.name)
        with pytest.raises(ExecutionError, match=r"pod 'mlpipe-a-.*' is gone|namespace 'default' is gone"):
            ending.result(60)


def test_a_cancelled_step_leaves_no_pod(site):
    with meanwhile(lambda: site.go(step(f"{WRITE} ; sleep 60"))) as ending:
        site.running(ending)
        eventually(lambda: "printed" in site.lines)
        site.catalog.request_stop(site.run_id, "cancel", "canceled by test")
        with pytest.raises(StepStoppedError, match="canceled by test"):
            ending.result(60)
    assert site.kept("logs/mlpipe/stdout.txt") == "printed\n"


def test_a_step_whose_time_is_over_is_ended(site):
    with pytest.raises(ExecutionError, match=r"was ended after its timeout of 1 s"):
        site.go(step(f"{WRITE} ; sleep 60", timeout_s=1.0))


def test_busy_servers_and_broken_streams_lose_neither_step_nor_line(site, cluster):
    faults = cluster.faults
    faults.fail("/pods", method="POST", code=503)
    faults.fail("/pods/mlpipe", method="GET", code=429, retry_after_s=1, after=1)
    faults.fail("/pods/mlpipe", method="GET", code=0, after=3)
    faults.fail("/log", code=500)
    faults.drop_logs(times=3, after_bytes=200)
    site.go(step("for i in $(seq 200) ; do echo line $i ; done; sleep 1; echo last; echo made > @out"))
    assert site.lines == [*(f"line {number}" for number in range(1, 201)), "last"]
    assert site.kept("logs/mlpipe/stdout.txt").splitlines() == site.lines


def test_an_answer_that_is_lost_makes_no_second_pod(site, cluster):
    cluster.faults.fail("/pods$", method="POST", code=0, done=True)
    site.go(step(WRITE))
    assert site.made() == "made\n"


def test_what_staging_says_is_told(site, cluster):
    target(site, cluster, helper_image=cluster.image("python"))
    with pytest.raises(ExecutionError, match="did not get its inputs: .*No module named 'airflow_mlpipe'"):
        site.go(step(WRITE))


def test_success_without_an_answer_is_a_failure(site, cluster):
    with meanwhile(lambda: site.go(step(f"{WRITE} ; sleep 3"))) as ending:
        pod = site.running(ending)
        # Started again it reads its order anew, and cannot answer without: so that goes first.
        place = site.dir / "stores/store" / pod.metadata.annotations["airflow-mlpipe/place"] / "order.json"
        place.unlink()
        cluster.faults.signal(pod.metadata.name, "mlpipe-collect", "SIGKILL")
        with pytest.raises(ExecutionError, match="has left no answer: its outputs were not collected"):
            ending.result(60)
    assert site.row.result_id is None
