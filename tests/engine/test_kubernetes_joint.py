"""Several pods that are one step: which is waited for, when that is of no use, and which has failed first."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.pod.order import PodAnswer
from airflow_mlpipe.model.result import FileRecord, MetricRecord, ObservedInput, Written

pytestmark = [pytest.mark.airflow]


def view(**fields: Any):
    from airflow_mlpipe.engine.pods.view import PodView

    return PodView(**{"phase": "Pending", **fields})


def ended(code: int = 0, reason: str = "Error", second: int = 0):
    from airflow_mlpipe.engine.pods.view import Ended

    at = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
    return Ended(code=code, reason=reason, message="", started_at=at, ended_at=at)


def running(**fields: Any):
    return view(phase="Running", staged=ended(), running=True, **fields)


def collecting(code: int = 0, **fields: Any):
    return view(phase="Running", staged=ended(), base=ended(code, **fields))


def test_the_pod_that_is_least_far_is_waited_for():
    from airflow_mlpipe.engine.pods.joint import awaited

    over = view(phase="Succeeded", staged=ended(), base=ended(), collected=ended())
    way = [view(), view(staging=True), running(), collecting(), over]
    for number, slowest in enumerate(way):
        assert awaited([*reversed(way[number:])]) is slowest


def test_one_of_several_that_fails_decides_and_one_alone_may_still_tell_why():
    from airflow_mlpipe.engine.pods.joint import is_decided

    assert not is_decided([collecting(3)])
    assert is_decided([collecting(3), running()])
    assert is_decided([running(), running(deleting=True)])
    assert not is_decided([collecting(), running()])


def blamed(*nodes: Any, answers: dict[int, PodAnswer] | None = None) -> int:
    from airflow_mlpipe.engine.pods.follow import Followed
    from airflow_mlpipe.engine.pods.nodes import to_blame

    first, *others = (Followed(**node) if isinstance(node, dict) else Followed(view=node) for node in nodes)
    first.others = list(others)
    return to_blame(first, [(answers or {}).get(node, PodAnswer()) for node in range(len(nodes))])


def test_the_first_failure_is_to_blame_unless_a_pod_was_lost():
    assert blamed(running(), running()) == 0
    assert blamed(collecting(1, second=9), collecting(1, second=5), collecting()) == 1
    told = {0: PodAnswer(failed_at_s=1e9 + 0.7), 1: PodAnswer(failed_at_s=1e9 + 0.3)}
    assert blamed(collecting(1), collecting(1), answers=told) == 1
    assert blamed(collecting(1), collecting(137, reason="OOMKilled", second=9)) == 1
    assert blamed(collecting(137, reason="OOMKilled"), view(phase="Failed", reason="Evicted")) == 1
    assert blamed(collecting(1), {"vanished": True}) == 1
    assert blamed({"vanished": True}, {"error": ConfigError("no image")}) == 1
    # It was ended because of the other one.
    assert blamed({"view": collecting(1), "dropped": True}, collecting(1, second=9)) == 1


def test_what_several_nodes_have_kept(tmp_path):
    from airflow_mlpipe.engine.pods.nodes import kept_together

    def answer(node: int, *names: str) -> PodAnswer:
        files = tuple(FileRecord(name=name, datastore="s", path=f"{node}/{name}") for name in names)
        seen = ObservedInput(kind="model", name="m", resolved="1", digest=None)
        metric = MetricRecord(name="loss", value=node)
        written = Written(metrics=(metric,), tags={"node": str(node), str(node): "x"}, files=files)
        return PodAnswer(written=written, observed=(seen,), warnings=("odd",), failure=f"no {node}" if node else None)

    (tmp_path / "stdout.txt").touch()
    quiet = SimpleNamespace(job=SimpleNamespace(stdout=tmp_path / "stdout.txt"), place=SimpleNamespace(node=1))
    kept = kept_together(
        SimpleNamespace(others=(quiet,)), [answer(0, "outputs/a", "logs/rank-0"), answer(1, "outputs/a", "outputs/b")]
    )
    files = {file.name: file.path for file in kept.written.files}
    assert files == {
        "outputs/a": "0/outputs/a",
        "outputs/node-1/a": "1/outputs/a",
        "outputs/b": "1/outputs/b",
        "logs/rank-0": "0/logs/rank-0",
    }
    assert [metric.value for metric in kept.written.metrics] == [0, 1]
    assert kept.written.tags == {"node": "0", "0": "x", "1": "x"}
    assert (len(kept.observed), kept.warnings, kept.failure) == (1, ("odd",), "no 1")


def test_a_guard_ends_all_pods_of_a_worker_that_was_killed():
    deleted: list[str] = []
    both = threading.Event()

    class Api(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            deleted.append(self.path)
            # One that is gone is no reason to leave the other, and a cluster that is busy is asked again.
            self.send_response({1: 404, 2: 503}.get(len(deleted), 200))
            self.send_header("Content-Length", "0")
            self.end_headers()
            if len(deleted) == 3:
                both.set()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    script = (
        "import os, pickle, sys; from airflow_mlpipe.engine.pods.guard import guarded\n"
        "with guarded(*pickle.load(sys.stdin.buffer), 1): os.kill(os.getpid(), 9)"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = SimpleNamespace(host=f"http://127.0.0.1:{server.server_port}", api_key={})
        pods = [SimpleNamespace(metadata=SimpleNamespace(name=name, namespace="n", uid="u")) for name in ("a", "b")]
        subprocess.run([sys.executable, "-c", script], input=pickle.dumps((pods, told)), timeout=30, check=False)
        assert both.wait(30)
        server.shutdown()
    a, b = "/api/v1/namespaces/n/pods/a", "/api/v1/namespaces/n/pods/b"
    assert deleted == [a, b, b]
