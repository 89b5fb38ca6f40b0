"""Steps of many processes: what each is told, that they reach each other, and that all of them end."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from airflow_mlpipe.errors import ParameterError, PipelineError, StepFailedError
from airflow_mlpipe.execution import ranks
from airflow_mlpipe.execution.kept import keep
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.step import Argument, StepSpec

needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt-get install openmpi-bin")
MPI = pytest.param("mpi", marks=needs_mpirun)

# From the failure of one to the end of all, on a busy machine.
SOON_S = 4.0

TELL = """
import json, os, sys, time
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "TF_CONFIG")
names += tuple(name for name in os.environ if name.startswith(("AZ_", "AZUREML_NODE")))
draft = folder + "-" + os.environ["RANK"]
with open(draft, "w") as file:
    json.dump({name: os.environ.get(name) for name in names}, file)
os.replace(draft, os.path.join(folder, os.environ["RANK"]))
# Parameter servers are ended with the workers, and have to have told by then.
deadline = time.monotonic() + 60
while len(os.listdir(folder)) < int(os.environ["WORLD_SIZE"]) and time.monotonic() < deadline:
    time.sleep(0.01)
"""

# Of a library that every Open MPI brings, so that the test needs no package.
ALLREDUCE = """
import ctypes, os, sys
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
handle = lambda name: ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, name)))
mpi.MPI_Init(None, None)
rank = ctypes.c_int()
mpi.MPI_Comm_rank(handle("ompi_mpi_comm_world"), ctypes.byref(rank))
assert rank.value == int(os.environ["RANK"])
mine, total = (ctypes.c_double * 3)(1, rank.value, rank.value ** 2), (ctypes.c_double * 3)()
world = handle("ompi_mpi_comm_world")
mpi.MPI_Allreduce(mine, total, 3, handle("ompi_mpi_double"), handle("ompi_mpi_op_sum"), world)
if len(sys.argv) > 1 and rank.value == 1:
    mpi.MPI_Abort(world, 7)
print(list(total))
mpi.MPI_Finalize()
"""

GLOO = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
vector = torch.tensor([1.0, float(dist.get_rank())])
dist.all_reduce(vector)
print(vector.tolist())
dist.destroy_process_group()
"""

# A rank and its child; each rank tells both pids through a named pipe. Rank 2 may then do something else.
FAMILY = """
import os, signal, subprocess, sys, time
{prelude}
child = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1], "w") as pipe:
    pipe.write(f"{{os.getpid()}} {{child.pid}} ")
if os.environ["RANK"] == "2":
    while not os.path.exists(sys.argv[1] + ".go"):
        time.sleep(0.02)
    {two}
time.sleep(600)
"""


def spread(kind: str, **fields) -> Distribution:
    return Distribution(kind=kind, **(fields or {"nodes": 2, "processes_per_node": 2}))


def family(bench, pipe: Path, kind: str, *, prelude: str = "", two: str = "pass", **fields) -> StepSpec:
    script = FAMILY.format(prelude=prelude, two=two)
    return bench.python(script, arguments=(Argument(value=str(pipe)),), distribution=spread(kind), **fields)


class Family:
    """Four ranks with a child each, seen from outside: a descriptor of every one of them."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.pipe = pipe
        self._descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._text = b""
        self.handles: list[int] = []
        self.let_go_at = float("inf")

    def complete(self) -> bool:
        """Whether all have told of themselves."""
        while not self.handles and select.select([self._descriptor], [], [], 0)[0]:
            self._text += os.read(self._descriptor, 4096)
            if len(self._text.split()) == 8 and self._text.endswith(b" "):
                self.handles = [os.pidfd_open(int(pid)) for pid in self._text.split()]
                self.pipe.with_name(f"{self.pipe.name}.go").touch()
                self.let_go_at = time.monotonic()
        return bool(self.handles)

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while not self.complete():
            assert time.monotonic() < deadline, f"not all ranks told of themselves: {self._text!r}"
            select.select([self._descriptor], [], [], 0.1)

    def all_dead(self) -> bool:
        return len(self.handles) == 8 and all(select.select([each], [], [], 20)[0] for each in self.handles)

    def close(self) -> None:
        for each in (self._descriptor, *self.handles):
            os.close(each)


@pytest.fixture
def people(tmp_path: Path):
    made = Family(tmp_path / "pipe")
    yield made
    made.close()


def told(bench, distribution: Distribution) -> list[dict[str, str]]:
    """What each rank is told, by rank."""
    output = OutputSpec(name="out", datastore="workspaceblobstore")
    bench.run(bench.python(TELL, outputs=(output,), distribution=distribution))
    files = sorted(bench.job.outputs["out"].iterdir(), key=lambda path: int(path.name))
    assert [path.name for path in files] == [str(rank) for rank in range(len(files))]
    return [json.loads(path.read_text()) for path in files]


@pytest.mark.parametrize("kind", [MPI, "pytorch"])
def test_what_ranks_are_told(bench, kind):
    each = told(bench, spread(kind))
    places = [(one["RANK"], one["NODE_RANK"], one["LOCAL_RANK"]) for one in each]
    assert places == [("0", "0", "0"), ("1", "0", "1"), ("2", "1", "0"), ("3", "1", "1")]
    assert [one["AZ_BATCHAI_TASK_INDEX"] for one in each] == ["0", "1", "2", "3"]
    address = {one["AZ_BATCH_MASTER_NODE"] for one in each}
    assert address == {f"127.0.0.1:{each[0]['MASTER_PORT']}"}
    for one in each:
        assert (one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["AZUREML_NODE_COUNT"]) == ("4", "2", "2")
        assert (one["MASTER_ADDR"], one["AZ_BATCHAI_MPI_MASTER_NODE"]) == ("127.0.0.1", "127.0.0.1")
        assert one["TF_CONFIG"] is None
        assert (one.get("AZ_BATCHAI_PYTORCH_INIT_METHOD") == f"tcp://{address.copy().pop()}") is (kind == "pytorch")


def test_tasks_of_tensorflow(bench):
    each = told(bench, spread("tensorflow", workers=2, parameter_servers=1))
    configs = [json.loads(one["TF_CONFIG"]) for one in each]
    assert [config["task"] for config in configs] == [
        {"type": "worker", "index": 0},
        {"type": "worker", "index": 1},
        {"type": "ps", "index": 0},
    ]
    (cluster,) = {json.dumps(config["cluster"]) for config in configs}
    workers, servers = json.loads(cluster)["worker"], json.loads(cluster)["ps"]
    assert len({*workers, *servers}) == 3
    assert (each[1]["AZ_BATCHAI_WORKER_HOSTS"], each[1]["AZ_BATCHAI_PS_HOSTS"]) == (",".join(workers), servers[0])
    (alone,) = told(bench, spread("tensorflow", workers=1, parameter_servers=0))
    assert list(json.loads(alone["TF_CONFIG"])["cluster"]) == ["worker"]


def test_parameter_servers_end_with_the_workers(bench):
    script = "import os, time\nif 'ps' in os.environ['TF_CONFIG'].split('task')[1]: time.sleep(600)"
    job = bench.stage(bench.python(script, distribution=spread("tensorflow", workers=1, parameter_servers=1)))
    assert (launch(job).code, job.stderr.read_text()) == (0, "")


@pytest.mark.parametrize("kind", [MPI, "pytorch"])
def test_each_rank_has_a_log_and_that_of_rank_0_is_the_steps(bench, kind):
    bench.run(bench.python("import os; print(os.environ['RANK'])", distribution=spread(kind)))
    files = {file.name: bench.blob.path_of(file.path).read_text() for file in bench.kept.written.files}
    assert files["logs/mlpipe/stdout.txt"] == "0\n"
    assert {name: text for name, text in files.items() if name.endswith("stdout.txt")} == {
        "logs/mlpipe/stdout.txt": "0\n",
        "logs/rank-1/stdout.txt": "1\n",
        "logs/rank-2/stdout.txt": "2\n",
        "logs/rank-3/stdout.txt": "3\n",
    }


@needs_mpirun
def test_four_ranks_of_mpi_sum_a_vector(bench):
    job = bench.stage(bench.python(ALLREDUCE, distribution=spread("mpi")))
    assert launch(job).code == 0, job.stderr.read_text()
    assert job.stdout.read_text() == "[4.0, 6.0, 14.0]\n"
    assert {path.read_text() for path in job.cwd.glob("logs/rank-*/stdout.txt")} == {"[4.0, 6.0, 14.0]\n"}


@needs_mpirun
def test_an_abort_of_mpi(bench):
    job = bench.stage(bench.python(ALLREDUCE, arguments=(Argument(value="abort"),), distribution=spread("mpi")))
    assert launch(job).code == 7
    # What mpirun says of it comes and goes.
    assert "rank 1 of 4 exited with code 7" in job.stderr.read_text()


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_all_reduces_over_gloo(bench):
    job = bench.stage(bench.python(GLOO, distribution=spread("pytorch", processes_per_node=2, backend="gloo")))
    assert launch(job).code == 0, job.stderr.read_text()
    assert job.stdout.read_text() == "[2.0, 1.0]\n"


def test_a_command_runs_as_ranks(bench):
    step = bench.shell('echo "$RANK of $WORLD_SIZE"', distribution=spread("pytorch", processes_per_node=2))
    assert bench.printed(step) == "0 of 2\n"
    assert (bench.job.cwd / "logs/rank-1/stdout.txt").read_text() == "1 of 2\n"


@pytest.mark.parametrize(
    ("kind", "two"),
    [
        pytest.param("mpi", "raise ValueError('bad data')", marks=needs_mpirun),
        ("pytorch", "raise ValueError('bad data')"),
        ("pytorch", "os.kill(os.getpid(), signal.SIGSEGV)"),
    ],
)
def test_one_rank_that_fails_ends_all(bench, people, kind, two):
    job = bench.stage(family(bench, people.pipe, kind, two=two))
    exit = launch(job, stop=lambda: None if people.complete() else None)
    assert people.all_dead()
    assert time.monotonic() - people.let_go_at < SOON_S
    kept = keep(job, bench.blob)
    with pytest.raises(StepFailedError) as caught:
        bench.collect(job, exit, kept)
    error = caught.value
    how = "exited with code 1" if "bad data" in two else "was killed by signal 11"
    assert error.exit_code == (1 if "bad data" in two else -11)
    assert error.hint == f"rank 2 of 4 {how} and the others were ended, its log: logs/rank-2"
    assert error.last_lines[-1] == error.hint
    if "bad data" in two:
        assert error.last_lines[-2] == "ValueError: bad data"
        assert error.traceback_line == "main.py:10: ValueError: bad data"
        assert "logs/rank-2/stderr.txt" in [file.name for file in kept.written.files]


@pytest.mark.parametrize("kind", [MPI, "pytorch"])
def test_a_stop_ends_all(bench, people, kind):
    job = bench.stage(family(bench, people.pipe, kind))
    exit = launch(job, stop=lambda: "enough" if people.complete() else None)
    assert (exit.stopped, exit.leftovers) == ("enough", ())
    assert people.all_dead()
    assert "rank" not in job.stderr.read_text()


@pytest.mark.parametrize("kind", [MPI, "pytorch"])
def test_a_stop_ends_ranks_that_ignore_sigterm(bench, people, kind):
    job = bench.stage(family(bench, people.pipe, kind, prelude="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    assert launch(job, stop=lambda: "enough" if people.complete() else None, grace_s=0.2).stopped == "enough"
    assert people.all_dead()


def test_a_timeout_ends_all(bench, people):
    job = bench.stage(family(bench, people.pipe, "pytorch", timeout_s=3))
    assert launch(job, stop=lambda: None if people.complete() else None).timed_out
    assert people.all_dead()


RUNNER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from airflow_mlpipe.execution.contract import RunIdentity
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.stage import stage
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import LocalStore
root = Path({workspace!r})
store = LocalStore("workspaceblobstore", root / "stores/workspaceblobstore")
step = StepSpec.model_validate_json({step!r})
run = RunIdentity(run_id="r", step_run_id="sr", experiment="e", pipeline="p", workspace=root, parameters={{}})
launch(stage(step, run, {{}}, store=lambda name: store, default=store, work=root / "work/sr/try-1"))
"""


@pytest.mark.parametrize("kind", [MPI, "pytorch"])
def test_ranks_die_with_a_runner_that_is_killed(bench, people, kind):
    step = family(bench, people.pipe, kind, prelude="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    code = textwrap.dedent(RUNNER).format(
        path=[p for p in sys.path if p], workspace=str(bench.workspace), step=step.model_dump_json()
    )
    runner = subprocess.Popen([sys.executable, "-c", code])
    try:
        people.wait()
        runner.kill()
        assert runner.wait(30) == -signal.SIGKILL
        assert people.all_dead()
    finally:
        runner.kill()
        runner.wait()


def test_without_mpirun(bench, tmp_path):
    (tmp_path / "bin").mkdir()
    job = bench.stage(bench.python("pass", distribution=spread("mpi")))
    job.env["PATH"] = str(tmp_path / "bin")
    with pytest.raises(PipelineError) as caught:
        launch(job)
    assert caught.value.message == (
        f"step 'my step': mpirun is not on its PATH ({tmp_path / 'bin'}); install an MPI, such as Debian's package "
        "openmpi-bin"
    )


def test_a_command_that_is_not_there(bench):
    words = (Argument(value="no-such-tool"),)
    step = StepSpec(id="s", name="my step", kind="command", arguments=words, distribution=spread("pytorch"))
    with pytest.raises(PipelineError, match="step 'my step': command 'no-such-tool' is neither an executable"):
        launch(bench.stage(step))


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (-1, "-1"), ("2", "'2'")])
def test_counts_of_parameters(bench, value, shown):
    step = bench.python("", distribution=spread("pytorch", nodes="n"))
    bench.parameters["n"] = value
    with pytest.raises(ParameterError) as caught:
        bench.stage(step)
    assert caught.value.message == (
        f"step 'my step': nodes={shown} (pipeline parameter 'n') is not allowed; give a whole number from 1"
    )
    bench.parameters["n"] = 3
    assert bench.printed(
        bench.python("import os; print(os.environ['WORLD_SIZE'])", distribution=step.distribution)
    ) == ("3\n")


def test_ports_are_free_and_different():
    assert len(set(ranks.free_ports(20))) == 20
