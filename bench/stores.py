"""Uploads and downloads of a remote datastore, beside `aws s3 sync` and `aws s3 cp` on the same S3 server in one run.

Both are whole processes, from start to exit; they take turns, each time with a new bucket or folder, and what arrived
is compared with what was sent. The server is moto (`make emulators`); for one file of 5 GB it is s3rver, because moto
reads a whole object, several times, for each of its ranges. Peer and s3rver are installed into environments of their
own.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from measure import Called, Row, call

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import emulators

AWS = emulators.EMULATORS / "awscli" / "bin" / "aws"
S3RVER = emulators.EMULATORS / "s3rver" / "node_modules" / ".bin" / "s3rver"
# The only one that s3rver knows; moto takes any.
KEY = "S3RVER"
SCRIPT = """
import shutil, sys
from pathlib import Path
from airflow_mlpipe.model.data import DatastorePath
from airflow_mlpipe.storage.datastore import open_store
how, endpoint, url, folder, key = sys.argv[1:]
folder = Path(folder)
store = open_store("bench", url, {"endpoint_url": endpoint, "key": key, "secret": key})
source = DatastorePath(datastore="bench", path="data")
if how == "make":
    store.create_container()
elif how == "up":
    store.put(folder, "data")
elif how == "down":
    store.fetch(store.listing("data"), folder, base="data")
elif how == "list":
    store.listing("data")
elif how == "fingerprint":
    from airflow_mlpipe.storage.content import source_digest
    source_digest(source, lambda name: store)
else:
    from airflow_mlpipe.storage.outputs import materialise
    store.cache = (folder / "cache", 1 << 40)
    materialise(source, store, folder / "place")
"""
PARTS = ("small", "large", "many", "huge")
MORE = {
    "list": "listing",
    "fingerprint": "fingerprint, which is also the look at an unchanged input",
    "stage": "staging for a step, through the cache",
}
"""What is measured of ours alone, and how it is called."""


@dataclass
class Server:
    """An S3 server, and what it took."""

    endpoint: str

    def cpu_s(self) -> float:
        """Return the processor time that its process has used."""
        port = self.endpoint.rpartition(":")[2].encode()
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if port in (folder / "cmdline").read_bytes().split(b"\0"):
                    ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
            except OSError:
                continue
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Taken:
    """The processes of one kind."""

    calls: list[Called] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)

    def text(self) -> str:
        """Tell the least wall time, the median, and the processor time beside that of the server."""
        walls = [each.wall_s for each in self.calls]
        cpu_s = min(each.cpu_s for each in self.calls)
        median = f", median {statistics.median(walls):.1f}" if len(walls) > 1 else ""
        return f"{min(walls):.1f} s{median}; processor {cpu_s:.1f} s, server's {min(self.server_s):.1f} s"

    @property
    def peak_mb(self) -> float:
        """The most memory that one of them had."""
        return max(each.peak_mb for each in self.calls)


def ours(how: str, endpoint: str, bucket: str, folder: Path) -> Called:
    arguments = [how, endpoint, f"s3://{bucket}", str(folder), KEY]
    return call([sys.executable, "-c", SCRIPT, *arguments], folder.parent, os.environ)


def aws(how: str, endpoint: str, bucket: str, folder: Path, single: bool) -> Called:
    # One file is copied, a folder synchronised: what its users type.
    name = next(folder.iterdir()).name if single and how == "up" else "large"
    here, there = (str(folder / name), f"s3://{bucket}/data/{name}") if single else (str(folder), f"s3://{bucket}/data")
    pair = [here, there] if how == "up" else [there, here]
    command = [str(AWS), "s3", "cp" if single else "sync", "--only-show-errors", "--endpoint-url", endpoint, *pair]
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "us-east-1"}
    return call(command, folder.parent, {**os.environ, **keys, "AWS_EC2_METADATA_DISABLED": "true"})


def compare(
    title: str, make: Callable[[Path], None], single: bool, rounds: int, slow: bool = False, more: tuple[str, ...] = ()
) -> list[Row]:
    """Return the rows of one set of files: times, ratio and the peak of memory; `slow` takes the slow server away."""
    taken: dict[tuple[str, str], Taken] = {}
    with tempfile.TemporaryDirectory(prefix="mlpipe-stores-") as text, served(Path(text), slow) as server:
        place = Path(text)
        source = place / "source"
        source.mkdir()
        make(source)
        for number in range(rounds):
            for who in ("ours", "aws"):
                bucket, target = f"{who}-{number}", place / "target"
                ours("make", server.endpoint, bucket, target)
                kinds = ("up", *more, "down") if who == "ours" and not number else ("up", "down")
                for how in kinds:
                    folder = source if how == "up" else target
                    folder.mkdir(exist_ok=True)
                    before_s = server.cpu_s()
                    if who == "ours":
                        done = ours(how, server.endpoint, bucket, folder)
                    else:
                        done = aws(how, server.endpoint, bucket, folder, single)
                    each = taken.setdefault((who, how), Taken())
                    each.calls.append(done)
                    each.server_s.append(server.cpu_s() - before_s)
                    # A run of an hour that is cut off has said what it knew.
                    print(f"{title}: {who} {how}: {each.text()}; {each.peak_mb:.0f} MB", file=sys.stderr, flush=True)
                    if how in MORE:
                        shutil.rmtree(target)
                check(source, target)
                shutil.rmtree(target)
    rows: list[Row] = []
    for how, word in {"up": "upload", "down": "download", **{how: MORE[how] for how in more}}.items():
        mine = taken["ours", how]
        text, asked = mine.text(), ""
        if ("aws", how) in taken:
            theirs = taken["aws", how]
            least = [min(each.wall_s for each in who.calls) for who in (mine, theirs)]
            text += f"; aws s3 {'cp' if single else 'sync'} {theirs.text()}; ratio {least[0] / least[1]:.2f}"
            asked = "ratio <= 1"
        rows.append((f"{title}: {word}", text, asked))
        rows.append((f"{title}: {word}, peak of memory", f"{mine.peak_mb:.0f} MB", "<= 500 MB"))
    return rows


@contextmanager
def served(place: Path, slow: bool) -> Iterator[Server]:
    """Run the server: moto, or s3rver where moto is too slow."""
    if not slow:
        with emulators.s3() as endpoint:
            yield Server(endpoint)
        return
    port = emulators.free_port()
    command = [
        str(S3RVER), "--directory", str(place / "objects"), "--address", "127.0.0.1", "--port", str(port), "--silent",
        "--no-vhost-buckets",
    ]  # fmt: skip
    (place / "objects").mkdir()
    with emulators.running(command, port) as endpoint:
        yield Server(endpoint)


def check(source: Path, target: Path) -> None:
    """Stop if the two folders differ."""
    names = sorted(path.name for path in source.iterdir())
    if names != sorted(path.name for path in target.iterdir()):
        sys.exit(f"{target} has other files than {source}")
    _, differ, errors = filecmp.cmpfiles(source, target, names, shallow=False)
    if differ or errors:
        sys.exit(f"{target} differs from {source}: {(differ + errors)[:3]}")


def files(count: int, size_bytes: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for number in range(count):
            (folder / f"f{number:06d}").write_bytes(os.urandom(size_bytes))

    return make


def one(size_bytes: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        # Small, as whoever starts a process must be smaller than it.
        block = os.urandom(1 << 20)
        with (folder / "large").open("wb") as file:
            for number in range(size_bytes // len(block)):
                file.write(number.to_bytes(8, "big") + block[8:])

    return make


def install() -> None:
    """Install the peer and the second server where they are missing."""
    if not AWS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(AWS.parents[1])], check=True)
        subprocess.run([str(AWS.parent / "pip"), "install", "--quiet", "awscli"], check=True)
    if not S3RVER.exists():
        S3RVER.parents[2].mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", str(S3RVER.parents[2]), "s3rver"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["small", "large"], help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if reason := emulators.missing(emulators.MOTO):
        sys.exit(reason)
    install()
    rows: list[Row] = []
    for part in given.parts:
        if part == "small":
            rows += compare("2,000 files, 20 MB", files(2000, 10_000), False, given.rounds)
        elif part == "large":
            rows += compare("one file of 1 GB", one(1 << 30), True, given.rounds)
        elif part == "many":
            rows += compare("100,000 files of 100 bytes", files(100_000, 100), False, 1, more=tuple(MORE))
        elif part == "huge":
            rows += compare("one file of 5 GB", one(5 << 30), True, 1, slow=True, more=tuple(MORE))
        else:
            sys.exit(f"there is no part '{part}'; there are {', '.join(PARTS)}")
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
