"""Starts the ranks of a distributed step, waits for them, and ends all if one fails.

Runs by itself, as the process of the step: a copy of this file lies in the folder of its try, beside a plan. It may
run in any image, so it needs the standard library only. ``ranks.py PLAN`` is the step, or one node of it where each
node is a pod; ``ranks.py PLAN rank`` is one of its ranks under mpirun.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

GRACE_S = 1.0
"""How long the other ranks may take to end themselves after one has failed."""

FLAGS = ("-I", "-S")
"""What this file's interpreter is given: nothing of the user's may stand in for a module of the library."""

FAILURE = "failure.txt"
"""Name of the file beside the plan that tells of the step's failure in a line of text."""

_POLL_S = 0.02
_TELL_WITHIN_S = 60.0
_LINES = 15
_TAIL_BYTES = 64 * 1024
_HOST = "127.0.0.1"
_PORT = "MLPIPE_RANKS_PORT"
_PR_SET_PDEATHSIG = 1


class Plan:
    """What a step's ranks are; see :class:`~airflow_mlpipe.model.distribution.Distribution`."""

    def __init__(self, path: Path) -> None:
        """Read the document at `path`."""
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.path = path
        self.argv: list[str] = facts["argv"]
        self.kind: str = facts["kind"]
        self.nodes: int = facts["nodes"]
        self.per_node: int = facts["processes_per_node"]
        self.workers: int = facts.get("workers") or 0
        self.servers: int = facts.get("parameter_servers") or 0
        self.backend: str | None = facts.get("backend")
        self.node: int | None = facts.get("node")
        self.hosts: list[dict[str, Any]] = facts.get("hosts", [])
        self.token: str = facts.get("token", "")
        self.logs = Path(facts["logs"])
        self.size = self.workers + self.servers if self.kind == "tensorflow" else self.nodes * self.per_node

    @property
    def first(self) -> Path:
        """Where the first rank under mpirun that fails notes itself: its number and its exit code."""
        return self.path.with_name("first.txt")

    @property
    def failure(self) -> Path:
        """Where the step's failure is told in a line of text."""
        return self.path.with_name(FAILURE)

    def node_of(self, rank: int) -> int:
        """Return the node of a rank; TensorFlow's tasks of each kind begin with node 0."""
        if self.kind == "tensorflow":
            return rank if rank < self.workers else rank - self.workers
        return rank // self.per_node

    @property
    def here(self) -> list[int]:
        """The ranks that are started here: all, or those of one node."""
        return [rank for rank in range(self.size) if self.node in (None, self.node_of(rank))]

    @property
    def listening(self) -> list[int]:
        """The ranks that others have to find, and so need a port."""
        return list(range(self.size)) if self.kind == "tensorflow" else [0]

    @property
    def places(self) -> list[tuple[str, int]]:
        """Address and port of each rank of `listening`."""
        if self.node is None:
            return [(_HOST, port) for port in free_ports(len(self.listening))]
        ports = {int(rank): (host["address"], port) for host in self.hosts for rank, port in host["ports"].items()}
        return [ports[rank] for rank in self.listening]

    @property
    def has_servers(self) -> bool:
        """Whether parameter servers run here that workers of other nodes use as well."""
        return self.node is not None and self.node < self.servers

    def ends_itself(self, rank: int) -> bool:
        """Whether a rank is waited for; a parameter server ends with the workers."""
        return self.kind != "tensorflow" or rank < self.workers

    def streams(self, rank: int) -> tuple[Path, Path]:
        """Return the files that a rank prints to; rank 0 prints to the step's own."""
        folder = self.logs / f"rank-{rank}"
        return folder / "stdout.txt", folder / "stderr.txt"


def variables(plan: Plan, rank: int, places: list[tuple[str, int]]) -> dict[str, str]:
    """Return what tells a rank which one it is and where the others are, with the names that v1 used.

    Args:
        plan: the ranks.
        rank: which one.
        places: address and free port of rank 0, and for TensorFlow of each rank.
    """
    (master, port), at = places[0], [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places]
    group, local, beside = plan.node_of(rank), rank % plan.per_node, plan.per_node
    if plan.kind == "tensorflow":
        local, beside = 0, 1
    result = {
        "RANK": str(rank),
        "WORLD_SIZE": str(plan.size),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(beside),
        "NODE_RANK": str(group),
        "MASTER_ADDR": master,
        "MASTER_PORT": str(port),
        "AZUREML_NODE_COUNT": str(len(plan.hosts) or plan.nodes),
        "AZ_BATCH_MASTER_NODE": at[0],
        "AZ_BATCHAI_MPI_MASTER_NODE": master,
        "AZ_BATCHAI_TASK_INDEX": str(rank),
    }
    if plan.kind == "pytorch":
        result["AZ_BATCHAI_PYTORCH_INIT_METHOD"] = f"tcp://{at[0]}"
        result["AZ_BATCHAI_PYTORCH_BACKEND"] = plan.backend or "nccl"
        if sys.platform == "linux" and master == _HOST:
            # Gloo listens on what the host's name means, which may be the network, or nothing.
            result["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    if plan.kind == "tensorflow":
        workers, servers = at[: plan.workers], at[plan.workers :]
        cluster = {"worker": workers, **({"ps": servers} if servers else {})}
        task = {"type": "worker" if rank < plan.workers else "ps", "index": group}
        result["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task, "environment": "cloud"})
        result["AZ_BATCHAI_WORKER_HOSTS"] = ",".join(workers)
        result["AZ_BATCHAI_PS_HOSTS"] = ",".join(servers)
        result["AZ_BATCHAI_TASK_INDEX"] = str(group)
    return result


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens on, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


class Ranks:
    """The processes of a step's ranks, or of one of them."""

    def __init__(self, plan: Plan) -> None:
        """Start none yet."""
        self.plan = plan
        self.stopped = False
        self._running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
        signal.signal(signal.SIGTERM, self._stop)

    def start(self, rank: int, told: dict[str, str]) -> None:
        """Start a rank; it dies with this process.

        Raises:
            OSError: if the system refuses.
        """
        files: list[IO[bytes]] = []
        if rank:
            out, err = self.plan.streams(rank)
            out.parent.mkdir(parents=True, exist_ok=True)
            files = [out.open("wb"), err.open("wb")]
        try:
            process = subprocess.Popen(
                self.plan.argv,
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                stdout=files[0] if files else None,
                stderr=files[1] if files else None,
                preexec_fn=_die_with_parent,
            )
        finally:
            for each in files:
                each.close()
        self._running[process.pid] = rank, process
        if self.stopped:
            self._signal(signal.SIGTERM)

    def wait(self) -> tuple[int, int] | None:
        """Wait until all have ended that end by themselves, or one has failed.

        Returns:
            the rank that failed and its exit code, negative for a signal; None if none failed.
        """
        while any(self.plan.ends_itself(rank) for rank, _ in self._running.values()):
            rank, code = self._ended(*os.wait())
            if code:
                return rank, code
        return None

    def look(self) -> tuple[int, int] | None:
        """Return the rank that has failed by now, as :meth:`wait` does; what runs is not waited for."""
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return None
            rank, code = self._ended(pid, status)
            if code:
                return rank, code
        return None

    def end(self) -> None:
        """End those that still run: SIGTERM, :data:`GRACE_S` seconds to comply, SIGKILL."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self._running and time.monotonic() < deadline:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._ended(pid, status)
            else:
                time.sleep(_POLL_S)
        self._signal(signal.SIGKILL)
        while self._running:
            self._ended(*os.wait())

    def _ended(self, pid: int, status: int) -> tuple[int, int]:
        if pid not in self._running:
            return 0, 0
        rank, process = self._running.pop(pid)
        process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return rank, process.returncode

    def _signal(self, number: signal.Signals) -> None:
        # Not Popen's own way, which reaps what has ended and so would hide it from the wait. A signal handler may have
        # come in between, hence the copy.
        for pid in list(self._running):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self, number: int, frame: object) -> None:
        # Whoever asked ends what does not comply; see to it that everybody was asked.
        self.stopped = True
        self._signal(signal.SIGTERM)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run(plan: Plan) -> int:
    """Run the ranks as children of this process; return the step's exit code, negative for a signal."""
    ranks = Ranks(plan)
    places = plan.places
    with Partings(plan) as partings:
        try:
            for rank in plan.here:
                ranks.start(rank, variables(plan, rank, places))
            failed = ranks.wait() or partings.wait(ranks)
        finally:
            ranks.end()
    if failed is None:
        return 0
    if not ranks.stopped:
        tell(plan, *failed)
    return failed[1]


class Partings:
    """How the nodes of TensorFlow's parameter servers learn that the workers of all nodes have ended.

    Each node says so to each of them, in a line with the token that the plans of all nodes have.
    """

    def __init__(self, plan: Plan) -> None:
        """Listen, if there are parameter servers here and other nodes."""
        self._plan = plan
        self._waiting_for = set(range(plan.workers)) if plan.has_servers else set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Partings:
        """Begin to listen."""
        if self._waiting_for:
            assert self._plan.node is not None
            host = self._plan.hosts[self._plan.node]
            self._listener = socket.create_server(
                (host["address"], host["parting"]), family=_family(host["address"]), backlog=len(self._plan.hosts)
            )
            self._listener.settimeout(_POLL_S)
        return self

    def __exit__(self, *error: object) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.close()

    def wait(self, ranks: Ranks) -> tuple[int, int] | None:
        """Say that the workers of this node have ended; return once all have, if parameter servers need to know.

        Returns:
            a parameter server that has failed meanwhile, as :meth:`Ranks.wait` does.

        Raises:
            OSError: if another node does not listen.
        """
        plan = self._plan
        if plan.node is not None and plan.node < plan.workers:
            for host in plan.hosts[: plan.servers]:
                _tell_parting(host, f"{plan.token} {plan.node}\n".encode())
        while self._waiting_for and not ranks.stopped:
            failed = ranks.look()
            if failed is not None:
                return failed
            self._listen()
        return None

    def _listen(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return
        with connection, suppress(OSError, ValueError):
            connection.settimeout(1.0)
            token, node = connection.makefile("rb").readline(200).decode().split()
            if token == self._plan.token:
                self._waiting_for.discard(int(node))


def _tell_parting(host: dict[str, Any], line: bytes) -> None:
    deadline = time.monotonic() + _TELL_WITHIN_S
    while True:
        try:
            with socket.create_connection((host["address"], host["parting"]), 5.0) as connection:
                connection.sendall(line)
                return
        except OSError as error:
            # It may not have come so far; its node may have failed, and then all are ended.
            if time.monotonic() > deadline:
                raise OSError(f"the parameter server at {host['address']} cannot be reached: {error}") from error
            time.sleep(_POLL_S)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def run_mpi(plan: Plan) -> int:
    """Run all ranks with mpirun; return the step's exit code, negative for a signal."""
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        print("mpirun is not on the PATH; install Debian's package openmpi-bin, in an image too", file=sys.stderr)
        return 127
    argv = [mpirun, "-np", str(plan.size), "--oversubscribe", "--bind-to", "none"]
    if os.geteuid() == 0:
        argv.append("--allow-run-as-root")
    # What it leaves behind if it is killed goes with the folder of the try.
    argv += ["--mca", "plm", "isolated", "--mca", "orte_tmpdir_base", str(plan.path.parent)]
    if sys.platform == "linux":
        argv += ["--mca", "oob_tcp_if_include", "lo", "--mca", "btl_tcp_if_include", "lo"]
    argv += [sys.executable, *FLAGS, __file__, str(plan.path), "rank"]
    started: list[subprocess.Popen[bytes]] = []
    stopped = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        for each in started:
            each.terminate()

    signal.signal(signal.SIGTERM, stop)
    env = {**os.environ, _PORT: str(free_ports(1)[0])}
    started.append(subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent))
    code = started[0].wait()
    if code and not stopped and plan.first.exists():
        rank, its_code = map(int, plan.first.read_text("ascii").split())
        tell(plan, rank, its_code)
        return its_code
    return code


def run_rank(plan: Plan) -> int:
    """Run the command as the rank that mpirun says this process is; note whether it failed first."""
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    ranks = Ranks(plan)
    try:
        ranks.start(rank, variables(plan, rank, [(_HOST, int(os.environ[_PORT]))]))
        failed = ranks.wait()
    finally:
        ranks.end()
    if failed is None:
        return 0
    if not ranks.stopped:
        with suppress(OSError), plan.first.open("x", encoding="ascii") as file:
            file.write(f"{rank} {failed[1]}")
    return failed[1]


def tell(plan: Plan, rank: int, code: int) -> None:
    """Say at the end of the step's log which rank failed, and what it printed last."""
    own = f", its log: {plan.logs.name}/rank-{rank}" if rank else ""
    if rank:
        sys.stderr.write("".join(f"{line}\n" for line in _last_lines(plan, rank)))
    how = f"exited with code {code}" if code > 0 else f"was killed by signal {-code}"
    where = "" if plan.node is None else f" on node {plan.node}"
    text = f"rank {rank} of {plan.size}{where} {how} and the others were ended{own}"
    print(text, file=sys.stderr, flush=True)
    # Only a finer error is lost by it.
    with suppress(OSError):
        plan.failure.write_text(text, "utf-8")


def _last_lines(plan: Plan, rank: int) -> list[str]:
    for path in reversed(plan.streams(rank)):
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        if lines:
            return lines[-_LINES:]
    return []


def end(code: int) -> None:
    """End this process with a code, or by the signal that it stands for."""
    if code < 0:
        with suppress(OSError):
            # Not to be had for SIGKILL, which needs none.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        # The first process of a container is not ended by its own signals.
        code = 128 - code
    sys.exit(code)


def main(argv: list[str]) -> None:
    """Be the step, or one of its ranks."""
    plan = Plan(Path(argv[1]))
    try:
        end(run_rank(plan) if len(argv) > 2 else run_mpi(plan) if plan.kind == "mpi" else run(plan))
    except OSError as error:
        print(f"the ranks cannot be run: {error}", file=sys.stderr)
        end(126)


if __name__ == "__main__":
    main(sys.argv)
