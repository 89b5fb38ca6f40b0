"""F26, F27: every name and every kind of file that a file system can hold, through commit and reuse."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import fault_driver
import pytest
from fault_site import FaultSite
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from airflow_mlpipe.storage.manifests import read_manifest

WRITER = r"""
import base64, json, os, sys
root = os.fsencode(sys.argv[1])
os.mkdir(root)
for name, kind in json.load(open(sys.argv[2])):
    path = os.path.join(root, base64.b64decode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if kind == "dir":
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(b"" if kind == "empty" else path)
        os.chmod(path, 0o755 if kind == "exec" else 0o644)
"""

ODD = (
    "caf\u00e9", "cafe\u0301", "-rf", " ", "a b", "trailing ", "trailing.", "con", "nul.txt", "UPPER", "upper",
    "new\nline", "tab\t", "back\\slash", "quote'\"", "$(id)", "`id`", "*", "?", "[a]", "{b}", "~", "#", "%41", "\u202e",
    "\U0001f4a9", "a" * 255, "\x7f", "..a", "...", ".hidden", "\udcff\udcfe", "half\udcc3", ".tmp-draft", "\ud7ff",
)  # fmt: skip


def _is_name(text: str) -> bool:
    """Whether a file may be called so; surrogates other than those of PEP 383 stand for no bytes."""
    try:
        return 0 < len(os.fsencode(text)) <= 255 and text not in (".", "..")
    except UnicodeEncodeError:
        return False


NAMES = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60),
    st.binary(min_size=1, max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_"))),
).filter(_is_name)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.sampled_from(["file", "file", "empty", "exec", "dir"]), min_size=1, max_size=8)


def _possible(tree: Mapping[str, str]) -> bool:
    """Whether no entry lies below a file or an entry called empty folder."""
    return not any(other.startswith(f"{path}/") for path in tree for other in tree if other != path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    site = FaultSite.make(tmp_path_factory.mktemp("names") / "site")
    (site.source / "write.py").write_text(WRITER)
    return site


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(tree=TREES)
@example(tree=dict.fromkeys(ODD, "file"))
@example(tree={f"{name}/{name}": "exec" for name in ODD})
@example(tree=dict.fromkeys(ODD, "dir"))
def test_odd_names(shared: FaultSite, tree: dict[str, str]):
    assume(_possible(tree))
    site = shared
    wanted = site.data / "in" / "1.txt"
    wanted.write_text(_listing(tree))
    step = site.make_step(script=f'{sys.executable} -S write.py "$1" "$2/1.txt"')
    ended = site.run(step)
    assert ended.status == "Completed", ended
    record = site.result(ended).outputs[0]
    root = site.output(ended)
    assert _found(root) == tree
    manifest = read_manifest(record.digest, site.store)
    assert manifest is not None
    kinds = {"empty": "file"}
    assert {e.path: e.type for e in manifest.entries} == {p: kinds.get(k, k) for p, k in tree.items()}
    assert [e.path for e in manifest.entries] == sorted(tree)
    again = site.run(step)
    assert (again.decisions, site.output(again)) == ({"make": "reuse"}, root), again.reasons
    site.check()


def _listing(tree: Mapping[str, str]) -> str:
    return json.dumps([[base64.b64encode(os.fsencode(path)).decode(), kind] for path, kind in tree.items()])


def _found(root: Path) -> dict[str, str]:
    """Every file and empty folder below `root`, and that each file holds what it should."""
    found = {}
    for folder, folders, files in os.walk(root):
        if not folders and not files:
            found[os.path.relpath(folder, root)] = "dir"
        for name in files:
            path = Path(folder, name)
            status = path.stat()
            kind = "exec" if status.st_mode & stat.S_IXUSR else "file" if status.st_size else "empty"
            assert path.read_bytes() == (b"" if kind == "empty" else os.fsencode(path))
            found[str(path.relative_to(root))] = kind
    return found


def test_two_spellings_of_a_name_are_two_names(site: FaultSite):
    """Unicode's composed and decomposed forms look alike and are different bytes: none is changed into the other."""
    composed, decomposed = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    digests = set()
    for name in (composed, decomposed):
        ended = site.run(site.make_step(script=f'mkdir "$1"; echo x > "$1/{name}"'))
        assert os.listdir(site.output(ended)) == [name]  # noqa: PTH208
        digests.add(site.result(ended).outputs[0].digest)
    assert len(digests) == 2


def test_odd_names_in_the_users_data(site: FaultSite):
    for name in ODD:
        (site.data / "in" / name).write_bytes(b"x")
    script = 'mkdir "$1"; cp -R "$2/." "$1/all"'
    ended = site.run(site.make_step(script=script))
    assert ended.status == "Completed", ended
    assert sorted(os.listdir(site.output(ended) / "all")) == sorted([*ODD, "1.txt", "2.txt"])  # noqa: PTH208
    site.check_rerun(site.make_step())
    (site.data / "in" / ODD[0]).write_bytes(b"y")
    assert site.run(site.make_step()).decisions == {"make": "run"}


@pytest.mark.parametrize(
    ("line", "first", "second"),
    [
        ("an empty file", ': > "$1/a"', 'printf x > "$1/a"'),
        ("an empty folder", 'mkdir "$1/a"', ":"),
        ("the executable bit", ': > "$1/a"', ': > "$1/a"; chmod +x "$1/a"'),
        ("a link and its target", 'echo x > "$1/b"; ln -s b "$1/a"', 'echo x > "$1/b"; cp "$1/b" "$1/a"'),
        ("where a link points", 'ln -s b "$1/a"', 'ln -s c "$1/a"'),
        ("a name", ': > "$1/a"', ': > "$1/b"'),
        ("a file and a folder of that name", ': > "$1/a"', 'mkdir "$1/a"'),
    ],
)
def test_what_is_part_of_the_content(site: FaultSite, line: str, first: str, second: str):
    digests = []
    for script in (first, second):
        ended = site.run(site.make_step(script=f'mkdir "$1"; echo same > "$1/same"; {script}'))
        assert ended.status == "Completed", ended
        digests.append(site.result(ended).outputs[0].digest)
    assert digests[0] != digests[1], f"{line} makes no difference"
    site.check()


# --- sizes

MEMORY_MB = 250
MANY = """
import os, sys
for number in range(int(sys.argv[2])):
    folder = f"{sys.argv[1]}/{number // 1000}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{number}", "w") as file:
        file.write(str(number))
"""


def _measured(site: FaultSite) -> tuple[dict, float, float]:
    """A run in a process of its own: its answer, its peak memory in MB, and its time in seconds."""
    code = (
        "import json, re, sys, pathlib; from fault_driver import work;"
        "answer = work(pathlib.Path(sys.argv[1]), 'usual');"
        # Not ru_maxrss: that begins with the memory of the process that was forked.
        r"peak = re.search(r'VmHWM:\s+(\d+)', pathlib.Path('/proc/self/status').read_text());"
        "print(json.dumps([answer, int(peak[1]) / 1024]))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(site.folder)],
        capture_output=True,
        text=True,
        env=fault_driver.environment(),
        check=True,
    )
    answer, peak_mb = json.loads(done.stdout)
    return answer, peak_mb, time.monotonic() - began


@pytest.mark.timeout(900)
def test_a_hundred_thousand_files(site: FaultSite, full: bool):
    """Ten thousand of them, unless MLPIPE_FAULTS=full."""
    count, most_mb = (100_000, 600) if full else (10_000, MEMORY_MB)
    (site.source / "many.py").write_text(MANY)
    (site.source / "make.sh").write_text(f'{sys.executable} -S many.py "$1" {count}')
    answer, peak_mb, seconds = _measured(site)
    assert answer["status"] == "Completed", answer
    (result,) = site.results()
    assert result.outputs[0].files == count
    again, again_mb, again_s = _measured(site)
    assert list(again["results"].values()) == ["reuse"]
    print(f"{count:,} files: {seconds:.1f} s and {peak_mb:.0f} MB; reused {again_s:.1f} s and {again_mb:.0f} MB")
    assert again_s < (seconds / 3 if full else seconds)
    assert max(again_mb, peak_mb) < most_mb
    site.check()


@pytest.mark.timeout(900)
def test_a_sparse_file_of_5_gib(site: FaultSite, full: bool):
    """Of 1 GiB, unless MLPIPE_FAULTS=full."""
    if shutil.disk_usage(site.folder).free < 1 << 30:
        pytest.skip("not enough room")
    gib = 5 if full else 1
    (site.source / "make.sh").write_text(f'mkdir "$1"; truncate -s {gib}G "$1/sparse"; echo end >> "$1/sparse"')
    answer, peak_mb, seconds = _measured(site)
    assert answer["status"] == "Completed", answer
    (result,) = site.results()
    sparse = site.store.path_of(result.outputs[0].path) / "sparse"
    assert result.outputs[0].size_bytes == (gib << 30) + 4
    assert sparse.stat().st_blocks * 512 < 1 << 20, "it was filled"
    print(f"{gib} GiB: {seconds:.1f} s, {peak_mb:.0f} MB")
    assert peak_mb < MEMORY_MB
    again, again_mb, again_s = _measured(site)
    assert list(again["results"].values()) == ["reuse"]
    assert again_mb < MEMORY_MB and again_s < seconds
