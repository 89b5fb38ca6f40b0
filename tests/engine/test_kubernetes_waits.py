"""How long a pod may take, and what its status and its log say: without a cluster."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlpipe.errors import ConfigError, ExecutionError
from airflow_mlpipe.model.compute import KubernetesSettings

pytestmark = [pytest.mark.airflow]


def view(**fields: Any):
    from airflow_mlpipe.engine.pods.view import PodView

    return PodView(**{"phase": "Pending", **fields})


def waits(timeout_s: float | None = None, **settings: Any):
    from airflow_mlpipe.engine.pods.waits import Waits

    given = {"startup_timeout_s": 10, "staging_timeout_s": 100, "collect_timeout_s": 50, **settings}
    return Waits.of("gpu", "train", KubernetesSettings(**given), timeout_s)


def blocked(reason: str, message: str = "", container: str = "base"):
    from airflow_mlpipe.engine.pods.view import Blocked

    return view(blocked=Blocked(container=container, image="train:1", reason=reason, message=message))


def test_the_time_of_staging_does_not_count_as_startup():
    """The phase is Pending all the while: 9 s for a node, 99 s for the inputs, and then the step's own image."""
    clock = waits()
    clock.check(view(), 0)
    clock.check(view(), 9)
    clock.check(view(staging=True), 9)
    clock.check(view(staging=True), 108)
    clock.check(view(), 108.5)
    with pytest.raises(
        ExecutionError, match=r"'train' was not started.* within 10 s; see startup_timeout_s of .*'gpu'"
    ):
        clock.check(view(unscheduled="0/3 nodes are available"), 110)


@pytest.mark.parametrize(
    ("seen", "bound_s", "said"),
    [
        (view(staging=True), 100, "did not get its inputs within 100 s; see staging_timeout_s"),
        (view(phase="Running", base=SimpleNamespace()), 50, "were not collected within 50 s; see collect_timeout_s"),
    ],
)
def test_each_wait_has_its_bound_and_says_which(seen, bound_s, said):
    clock = waits()
    clock.check(seen, 0)
    clock.check(seen, bound_s - 1)
    with pytest.raises(ExecutionError, match=said):
        clock.check(seen, bound_s)


def test_the_steps_own_time_counts_from_its_start():
    clock = waits(timeout_s=5)
    clock.check(view(), 0)
    clock.check(view(phase="Running", running=True), 9)
    clock.check(view(phase="Running", running=True), 13)
    assert not clock.timed_out
    clock.check(view(phase="Running", running=True), 14.5)
    assert clock.timed_out


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", 'rpc error: code = NotFound desc = failed to resolve "train:1": not found'),
        ("ErrImagePull", "manifest unknown"),
        ("ErrImagePull", "pull access denied, repository does not exist or may require authorization"),
        ("ErrImagePull", 'Head "https://r.example.com/v2/train/manifests/1": no basic auth credentials'),
        ("ImagePullBackOff", 'Back-off pulling image "train:1": ErrImagePull: 401 Unauthorized'),
        ("InvalidImageName", "couldn't parse image name"),
        ("ErrImageNeverPull", "is not present with pull policy of Never"),
    ],
)
def test_an_image_that_does_not_exist_fails_at_once_in_one_line(reason, message):
    with pytest.raises(
        ConfigError, match="'train' on compute target 'gpu': image 'train:1' cannot be pulled"
    ) as caught:
        waits().check(blocked(reason, message), 0)
    assert "\n" not in caught.value.message


def test_the_image_of_the_two_ends_is_named_as_what_it_is():
    with pytest.raises(ConfigError, match="helper_image 'train:1' cannot be pulled"):
        waits().check(blocked("ErrImagePull", "not found", container="mlpipe-stage"), 0)


def test_a_registry_that_is_busy_is_asked_three_times():
    clock = waits()
    busy = blocked("ErrImagePull", "dial tcp: i/o timeout")
    for now_s in range(2):
        clock.check(busy, now_s)
        clock.check(busy, now_s + 0.2)
        clock.check(blocked("ImagePullBackOff", "Back-off pulling image"), now_s + 0.5)
    with pytest.raises(ExecutionError, match=r"cannot be pulled \(ErrImagePull\): dial tcp: i/o timeout"):
        clock.check(busy, 3)


def test_a_pull_that_failed_between_two_looks_counts_as_well():
    clock = waits()
    clock.check(blocked("ImagePullBackOff", "Back-off pulling image"), 0)
    clock.check(blocked("ErrImagePull", "connection refused"), 1)
    clock.check(blocked("ImagePullBackOff", "Back-off pulling image"), 2)
    with pytest.raises(ExecutionError, match="connection refused"):
        clock.check(blocked("ErrImagePull", "connection refused"), 3)


def test_a_pull_that_takes_all_the_time_is_named():
    clock = waits()
    clock.check(blocked("ImagePullBackOff", "Back-off\npulling image"), 0)
    with pytest.raises(
        ExecutionError, match=r"within 10 s; .*: image 'train:1' \(ImagePullBackOff\): Back-off pulling"
    ):
        clock.check(blocked("ImagePullBackOff", "Back-off\npulling image"), 11)


def test_a_secret_that_is_missing_is_told_at_once():
    missing = blocked("CreateContainerConfigError", 'secret "lake" not found', container="mlpipe-stage")
    with pytest.raises(ConfigError, match=r"'mlpipe-stage' cannot be made .*secret \"lake\" not found"):
        waits().check(missing, 0)


class Log:
    """A container's log: each stream gives what is there, and breaks off after so many lines."""

    def __init__(self, lines: list[tuple[str, str]], breaks: list[int]) -> None:
        self.lines, self.breaks = lines, breaks
        self.reads: list[int | None] = []

    def __call__(self, *, follow: bool, since_s: int | None, timeout_s: Any) -> Any:
        from urllib3.exceptions import ProtocolError

        self.reads.append(since_s)
        stop = self.breaks.pop(0) if self.breaks else None

        def stream(amt: Any, decode_content: bool):
            for stamp, text in self.lines[:stop]:
                data = f"{stamp} {text}\n".encode()
                # Torn where nobody expects it.
                yield data[:7]
                yield data[7:]
            if stop is not None:
                yield b"2026-01-01T00:00"
                raise ProtocolError("broken")

        return SimpleNamespace(stream=stream, close=lambda: None)


def followed(log: Log) -> list[str]:
    from airflow_mlpipe.engine.pods.log import PodLog

    got: list[str] = []
    ended = threading.Event()
    reader = PodLog(log, lambda line: got.append(line.decode()), ended.set)
    reader.start()
    assert ended.wait(30)
    assert reader.finish(30)
    return got


def stamp(number: float) -> str:
    return f"2026-01-01T00:00:{number:012.9f}Z"


def test_lines_come_once_and_in_their_order_however_often_the_stream_breaks():
    lines = [(stamp(number / 10), f"line {number}") for number in range(100)]
    assert followed(Log(lines, [3, 50, 50, 99])) == [text for _, text in lines]


def test_equal_lines_of_the_same_moment_are_not_taken_for_one():
    lines = [(stamp(1), "same"), (stamp(1), "same"), (stamp(1), "same"), (stamp(1), "other"), (stamp(1), "same")]
    assert followed(Log(lines, [1, 2, 4])) == [text for _, text in lines]


def test_lines_a_little_out_of_order_are_not_lost():
    lines = [(stamp(1.5), "b"), (stamp(1.4), "a"), (stamp(1.6), "c"), (stamp(1.45), "late")]
    assert followed(Log(lines, [1, 2, 3])) == ["b", "a", "c", "late"]


def test_empty_lines_and_text_that_looks_like_a_time_stay_as_they_are():
    lines = [(stamp(1), ""), (stamp(2), f"{stamp(9)} printed"), (stamp(3), "  spaces  ")]
    assert followed(Log(lines, [2])) == [text for _, text in lines]


def test_who_waits_elsewhere_has_the_folder_of_its_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from airflow_mlpipe.engine.flight import StepDetached
    from airflow_mlpipe.engine.operators import _deferral

    run: Any = SimpleNamespace(room=SimpleNamespace(folder=tmp_path), row=SimpleNamespace(id="1"))

    def workspace() -> str | None:
        return _deferral(StepDetached({}, None), run).trigger.serialize()[1]["workspace"]

    assert workspace() == str(tmp_path)
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(tmp_path))
    assert workspace() is None


def test_a_tls_connection_that_breaks_is_asked_again_later():
    """The library's own reading of such an error fails."""
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException

    from airflow_mlpipe.engine.pods.asking import asking_once, is_passing

    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"no TLS here")

        thread = threading.Thread(target=hang_up)
        thread.start()
        configuration = client.Configuration(host=f"https://127.0.0.1:{server.getsockname()[1]}")
        api = asking_once(client.CoreV1Api(client.ApiClient(configuration)))
        with pytest.raises(ApiException, match="SSL") as caught:
            api.read_namespaced_pod("a", "default")
        thread.join()
    assert is_passing(caught.value)
