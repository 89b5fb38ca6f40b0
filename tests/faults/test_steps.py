"""F23-F25, F31, F33: steps that end half-way, forget an output, write strange entries, change inputs or are cut off."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from fault_site import ALL, STORE, FaultSite

from airflow_mlpipe.model.data import InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import tree_digest
from airflow_mlpipe.testing import InlineEngine

HALF = 'mkdir -p "$1"; echo half > "$1/all.txt"; '


def _failed(site: FaultSite, script: str, words: str, **fields) -> StepSpec:
    """A run of `script` fails with `words` in its error, and leaves no record and nothing of its output."""
    text = (site.source / "make.sh").read_text()
    step = site.make_step(script=script, **fields)
    users = site.users()
    ended = site.run(step)
    row = ended.steps["make"]
    assert (ended.status, row.status, row.result_id) == ("Failed", "failed", None), ended
    assert words in (row.error or ""), row.error
    assert site.results() == []
    site.check(users=users)
    (site.source / "make.sh").write_text(text)
    return step


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (HALF + "exit 3", "exited with code 3"),
        (HALF + "kill -9 $$", "was killed by signal 9"),
        (HALF + "kill -TERM $$", "was killed by signal 15"),
        ('mkdir -p "$1"', "nothing"),
    ],
    ids=["exit", "SIGKILL", "SIGTERM", "nothing"],
)
def test_a_step_that_ends_while_it_writes(site: FaultSite, script: str, words: str):
    if words == "nothing":
        # An empty output is an output: it is told, and it is what the next step reads.
        ended = site.run(site.make_step(script=script))
        assert (ended.status, site.result(ended).outputs[0].files) == ("Completed", 0)
        site.check_rerun(site.make_step())
        return
    _failed(site, script, words)
    assert (site.output(site.check_rerun()) / "all.txt").read_text() == ALL


def test_what_a_failed_try_wrote_is_not_part_of_the_next(site: FaultSite):
    """The second try of one step run writes to the same place."""
    mark = site.folder / "mark"
    script = f'mkdir -p "$1"; test -e {mark} && echo fine > "$1/b" && exit 0; touch {mark}; echo x > "$1/a"; exit 1'
    ended = site.run(site.make_step(script=script, retries=1, retry_delay_s=0))
    assert (ended.status, ended.steps["make"].try_number) == ("Completed", 2)
    assert [path.name for path in site.output(ended).iterdir()] == ["b"]
    site.check()


@pytest.mark.parametrize("script", ["true", 'mkdir -p "$1-typo"; : > "$1-typo/all.txt"'], ids=["none", "beside"])
def test_a_step_that_forgets_an_output(site: FaultSite, script: str):
    _failed(site, script, "ended well but did not write its output 'out'")
    site.check_rerun()


def test_one_of_two_outputs_is_none(site: FaultSite):
    outputs = tuple(OutputSpec(name=name, datastore=STORE) for name in ("out", "other"))
    _failed(site, HALF, "did not write its output 'other'", outputs=outputs)


STRANGE = {
    "a dangling link": ("ln -s nowhere", None),
    "a link to itself": ("ln -s link", None),
    "a link to its folder": ("ln -s .", None),
    "a link that goes up and comes back": ("ln -s ../out/all.txt", "outside of"),
    "a link out of the output": ("ln -s ../../../../../../data/in/1.txt", "outside of"),
    "a link to the root": ("ln -s /", "outside of"),
    "a link to a device": ("ln -s /dev/null", "outside of"),
    "a link to a secret": ("ln -s /etc/hostname", "outside of"),
    "a pipe": ("mkfifo", "is a device, socket or pipe"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_links_and_devices(site: FaultSite, kind: str):
    """Inside the output a link is kept as it is; out of it, and for everything that is no file, the step fails."""
    command, words = STRANGE[kind]
    line = f'{HALF}{command} "$1/link"'
    if words is not None:
        _failed(site, line, words)
        return
    ended = site.run(site.make_step(script=line))
    assert ended.status == "Completed", ended
    assert str((site.output(ended) / "link").readlink()) == command.rpartition(" ")[2]
    site.check_rerun()


def test_an_output_that_is_itself_a_link(site: FaultSite):
    _failed(site, 'ln -s /etc "$1"', "is a link")
    _failed(site, 'echo x > outputs/x; ln -s "$PWD/outputs/x" "$1"', "is a link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_an_output_with_a_device(site: FaultSite):
    _failed(site, f'{HALF}mknod "$1/null" c 1 3', "is a device, socket or pipe")


# --- steps that change what they read

CHANGES = {
    "overwrites": 'echo tampered > "$IN/all.txt"',
    "appends": 'echo more >> "$IN/all.txt"',
    "deletes": 'rm "$IN/all.txt"',
    "adds": ': > "$IN/new"',
    "same size and time": """
        touch -r "$IN/all.txt" t
        printf O | dd conv=notrunc bs=1 of="$IN/all.txt"
        touch -r t "$IN/all.txt"
    """,
}


def _step(site: FaultSite, line: str, mode: str) -> StepSpec:
    """A step behind ``make`` that runs `line` with the path of its input in ``$IN``."""
    script = site.folder / "change.sh"
    script.write_text(f'IN="$1"\n{line}\necho done > "$2"\n')
    return StepSpec(
        id="change",
        name="change",
        kind="command",
        arguments=(
            Argument(value="sh"),
            Argument(value=str(script)),
            Argument(kind="input", value="in"),
            Argument(kind="output", value="out"),
        ),
        inputs=(InputSpec(name="in", source=StepOutputRef(step="make", output="out"), mode=mode),),
        outputs=(OutputSpec(name="out", datastore=STORE),),
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_that_changes_its_input_gets_no_record(site: FaultSite, change: str):
    first = site.run()
    ended = site.run(site.make_step(), _step(site, CHANGES[change], "mount"))
    row = ended.steps["change"]
    assert (ended.decisions["make"], row.status, row.result_id) == ("reuse", "failed", None), ended
    assert "its input 'in' (output 'out' of step 'make') was changed while it ran" in (row.error or "")
    # The harm is seen: the result is not offered again, and its step makes it anew.
    healed = site.run()
    assert healed.decisions == {"make": "run"}
    assert (site.output(healed) / "all.txt").read_text() == ALL
    assert site.result(healed).outputs[0].digest == site.result(first).outputs[0].digest
    site.check()


@pytest.mark.parametrize("change", CHANGES)
def test_a_private_copy_may_be_changed(site: FaultSite, change: str):
    first = site.run()
    ended = site.run(site.make_step(), _step(site, CHANGES[change], "download"))
    assert ended.status == "Completed", ended
    site.check({site.result(first).id: site.result(first).outputs[0].digest})
    assert site.run().decisions == {"make": "reuse"}


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_step_that_changes_the_users_data(site: FaultSite, mode: str):
    line = f'{HALF}echo tampered > "$2/1.txt"'
    users = site.users()
    ended = site.run(site.make_step(script=line, inputs=(_data(site, mode),)))
    site.source.joinpath("make.sh").write_bytes(users["src/make.sh"][0])
    if mode == "download":
        assert ended.status == "Completed", ended
        site.check(users=users)
        return
    assert (ended.status, ended.steps["make"].result_id) == ("Failed", None), ended
    assert "its input 'in'" in (ended.steps["make"].error or "")
    site.check()


def _data(site: FaultSite, mode: str) -> InputSpec:
    return site.make_step().inputs[0].model_copy(update={"mode": mode})


# --- retries, timeouts, cancellation

SIDE_FILES = """
n=$(ls {marks} | wc -l)
: > {marks}/$n
mkdir -p "$1"
echo try $n > "$1/try"
echo side > side.txt
echo kept $n > outputs/kept-$n.txt
test $n = 2 || exit 7
"""


def test_tries_do_not_see_each_others_side_files(site: FaultSite):
    marks = site.folder / "marks"
    marks.mkdir()
    script = "test ! -e side.txt || exit 9\n" + SIDE_FILES.format(marks=marks)
    ended = site.run(site.make_step(script=script, retries=2, retry_delay_s=0))
    assert (ended.status, ended.steps["make"].try_number) == ("Completed", 3), ended
    result = site.result(ended)
    assert (site.output(ended) / "try").read_text() == "try 2\n"
    names = [file.name for file in result.written.files if file.name.startswith("outputs/")]
    assert names == ["outputs/kept-2.txt"]
    site.check()


def _children_of(mark: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or ())]


def test_a_step_that_is_out_of_time(site: FaultSite):
    """It ignores SIGTERM and has children of its own; none is left and none of its bytes is a result."""
    seconds = f"3{os.getpid()}"
    script = f'trap "" TERM; {HALF}(sleep {seconds} &) ; sleep {seconds}'
    _failed(site, script, "was ended after its timeout of 0.5 s", timeout_s=0.5)
    assert _children_of(seconds) == []
    site.check_rerun()


def test_a_run_that_is_cancelled_while_its_step_writes(site: FaultSite):
    ready = site.folder / "ready"
    os.mkfifo(ready)
    seconds = f"4{os.getpid()}"
    step = site.make_step(script=f"{HALF}(sleep {seconds} &); echo go > {ready}; sleep {seconds}")
    run_id = site.enqueue(step)

    def cancel() -> None:
        ready.read_text()
        site.catalog.request_stop(run_id, "cancel", "cancelled by a test")

    thread = threading.Thread(target=cancel)
    thread.start()
    InlineEngine(site.dir).submit(run_id)
    thread.join()
    ended = site.ended(run_id)
    assert (ended.status, ended.steps["make"].status, ended.steps["make"].result_id) == ("Canceled", "canceled", None)
    assert _children_of(seconds) == []
    assert site.results() == []
    site.check()


def test_a_worker_that_is_killed_takes_its_step_along(site: FaultSite, driver, tmp_path: Path):
    ready = site.folder / "ready"
    os.mkfifo(ready)
    seconds = f"5{os.getpid()}"
    text = (site.source / "make.sh").read_text()
    (site.source / "make.sh").write_text(f"{HALF}echo $$ > {ready}; exec sleep {seconds}")
    worker = driver.begin(site.folder)
    driver.go()
    step = psutil.Process(int(ready.read_text()))
    os.kill(worker, signal.SIGKILL)
    assert driver.end() == (-signal.SIGKILL, None)
    assert psutil.wait_procs([step], timeout=20)[1] == [], "the step outlived its worker"
    assert site.results() == []
    (site.source / "make.sh").write_text(text)
    site.check_rerun()


def test_the_index_never_vouches_for_a_tampered_output(site: FaultSite):
    """A file changed through another name, which changes neither the folder nor anything but the file's own times."""
    ended = site.run()
    path = site.output(ended) / "all.txt"
    alias = site.folder / "alias"
    os.link(path, alias)
    with StatIndex(site.dir / "index.db") as index:
        before = tree_digest(site.output(ended), index).digest
    with alias.open("r+b") as file:
        file.write(b"X")
    with StatIndex(site.dir / "index.db") as index:
        assert tree_digest(site.output(ended), index).digest != before
