"""Uploads and downloads of a remote datastore, beside `aws s3 sync` and `aws s3 cp` on the same S3 server in one run.

The server is moto (`make emulators`), the peer the AWS CLI in an environment of its own. Both are whole processes, from
start to exit; they take turns, each time with a new bucket or folder, and what arrived is compared with what was sent.
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
from collections.abc import Callable
from pathlib import Path

from measure import Called, Row, call

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import emulators

AWS = emulators.EMULATORS / "awscli" / "bin" / "aws"
SCRIPT = """
import sys
from pathlib import Path
from airflow_mlpipe.storage.datastore import open_store
how, endpoint, url, folder = sys.argv[1:]
store = open_store("bench", url, {"endpoint_url": endpoint, "key": "id", "secret": "secret"})
if how == "make":
    store.create_container()
elif how == "up":
    store.put(Path(folder), "data")
else:
    store.fetch(store.listing("data"), Path(folder), base="data")
"""
PARTS = ("small", "large", "many", "huge")


def ours(how: str, endpoint: str, bucket: str, folder: Path) -> Called:
    return call([sys.executable, "-c", SCRIPT, how, endpoint, f"s3://{bucket}", str(folder)], folder.parent, os.environ)


def aws(how: str, endpoint: str, bucket: str, folder: Path, single: bool) -> Called:
    # One file is copied, a folder synchronised: what its users type.
    name = next(folder.iterdir()).name if single and how == "up" else "large"
    here, there = (str(folder / name), f"s3://{bucket}/data/{name}") if single else (str(folder), f"s3://{bucket}/data")
    pair = [here, there] if how == "up" else [there, here]
    command = [str(AWS), "s3", "cp" if single else "sync", "--only-show-errors", "--endpoint-url", endpoint, *pair]
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    return call(command, folder.parent, {**os.environ, **keys, "AWS_EC2_METADATA_DISABLED": "true"})


def compare(title: str, make: Callable[[Path], None], single: bool, rounds: int, peer: bool = True) -> list[Row]:
    """Return the rows of one set of files: time and ratio up and down, and the peak of memory."""
    times: dict[tuple[str, str], list[float]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mlpipe-stores-") as place, emulators.s3() as endpoint:
        source = Path(place, "source")
        source.mkdir()
        make(source)
        for number in range(rounds):
            for who in ("ours", "aws") if peer else ("ours",):
                bucket, target = f"{who}-{number}", Path(place, "target")
                ours("make", endpoint, bucket, target)
                for how, folder in (("up", source), ("down", target)):
                    folder.mkdir(exist_ok=True)
                    done = (
                        ours(how, endpoint, bucket, folder)
                        if who == "ours"
                        else aws(how, endpoint, bucket, folder, single)
                    )
                    times.setdefault((who, how), []).append(done.wall_s)
                    if who == "ours":
                        peaks[how] = max(peaks.get(how, 0), done.peak_mb)
                check(source, target)
                shutil.rmtree(target)
    rows: list[Row] = []
    for how, word in (("up", "upload"), ("down", "download")):
        mine = times["ours", how]
        text = f"{min(mine):.2f} s (median {statistics.median(mine):.2f})"
        if peer:
            theirs = times["aws", how]
            ratio = min(mine) / min(theirs)
            text += (
                f"; aws s3 {'cp' if single else 'sync'} {min(theirs):.2f} s (median {statistics.median(theirs):.2f})"
            )
            text += f"; ratio {ratio:.2f}"
        rows.append((f"{title}: {word}", text, "ratio <= 1" if peer else ""))
        rows.append((f"{title}: {word}, peak of memory", f"{peaks[how]:.0f} MB", "<= 500 MB"))
    return rows


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
        block = os.urandom(64 << 20)
        with (folder / "large").open("wb") as file:
            for number in range(size_bytes // len(block)):
                file.write(number.to_bytes(8, "big") + block[8:])

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["small", "large"], help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if reason := emulators.missing(emulators.MOTO):
        sys.exit(reason)
    if not AWS.exists():
        subprocess.run(["uv", "venv", "--quiet", str(AWS.parents[1])], check=True)
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--python", str(AWS.parent / "python"), "awscli"], check=True
        )
    rows: list[Row] = []
    for part in given.parts:
        if part == "small":
            rows += compare("2,000 files, 20 MB", files(2000, 10_000), False, given.rounds)
        elif part == "large":
            rows += compare("one file of 1 GB", one(1 << 30), True, given.rounds)
        elif part == "many":
            rows += compare("100,000 files of 100 bytes", files(100_000, 100), False, 1, peer=False)
        elif part == "huge":
            rows += compare("one file of 5 GB", one(5 << 30), True, 1, peer=False)
        else:
            sys.exit(f"there is no part '{part}'; there are {', '.join(PARTS)}")
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
