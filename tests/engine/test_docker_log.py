"""What a container prints: all of it, once, whatever happens to the connection, and in bounded memory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_engine import Engine
from docker_proxy import LossyWay, lossy_way
from docker_site import TARGET, containers, printed, put_target, try_step
from engine_site import Site, shell

pytestmark = [pytest.mark.airflow, pytest.mark.docker]


@pytest.fixture
def way(docker_engine: Engine) -> Iterator[LossyWay]:
    # A socket's path has 107 characters at most: pytest's folders may be longer.
    with tempfile.TemporaryDirectory() as folder, lossy_way(Path(folder, "socket"), docker_engine.url) as found:
        yield found


def test_lines_survive_a_stream_that_drops(
    site: Site, docker_engine: Engine, busybox_image: str, way: LossyWay
) -> None:
    put_target(site, Engine(way.url), busybox_image)
    way.cuts, way.after_bytes = 4, 8_000
    line = "i=0; while [ $i -lt 1000 ]; do echo line $i; echo error $i >&2; i=$((i+1)); done; printf end"
    said: list[tuple[str, str]] = []
    run_id = try_step(site, shell("talk", line, compute=TARGET), on_line=lambda *got: said.append(got))
    assert way.cuts == 0
    assert printed(site, run_id, "talk") == b"".join(b"line %d\n" % i for i in range(1000)) + b"end"
    assert printed(site, run_id, "talk", "stderr") == b"".join(b"error %d\n" % i for i in range(1000))
    assert [text for stream, text in said if stream == "stderr"] == [f"error {i}" for i in range(1000)]
    assert containers(site, docker_engine) == []


def test_long_lines(site: Site, docker_engine: Engine, busybox_image: str) -> None:
    put_target(site, docker_engine, busybox_image)
    # More than an engine takes for one entry of its log.
    line = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short"
    run_id = try_step(site, shell("wide", line, compute=TARGET))
    assert printed(site, run_id, "wide") == b"x" * 100_000 + b"\nshort\n"


# In a process of its own, whose memory is its own.
MUCH = """
import re, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from docker_site import again
class Place:
    dir = Path(sys.argv[2])
lines = []
again(Place, sys.argv[3], "much", 1, on_line=lambda stream, line: lines.append(1))
# Not ru_maxrss: that begins with the memory of the process that was forked.
print(re.search("VmHWM: *(\\d+)", Path("/proc/self/status").read_text().replace(chr(9), " "))[1])
"""


def test_much_is_printed_in_bounded_memory(site: Site, docker_engine: Engine, busybox_image: str) -> None:
    put_target(site, docker_engine, busybox_image)
    size = 16 << 20
    line = f"yes {'0123456789' * 400} | head -c {size}"
    run_id = site.enqueue(shell("much", line, compute=TARGET))
    paths = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    words = [sys.executable, "-c", MUCH, paths, str(site.dir), run_id]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=True)
    text = printed(site, run_id, "much")
    expected = (b"0123456789" * 400 + b"\n") * (size // 4001 + 1)
    assert hashlib.sha256(text).digest() == hashlib.sha256(expected[:size]).digest()
    assert int(done.stdout) < 400 << 10
