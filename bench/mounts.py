"""A mounted file of a Blob server beside a download of it: a tenth of its bytes, and all of them, in turns in one run.

The server is Azurite (`make emulators`): moto reads a whole file for each part of it that is asked for. Each is a whole
process, from start to exit, that lists the file, mounts or downloads it, and reads it with plain file calls. What was
read is compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Row, call

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import emulators
import mounting

SCRIPT = """
import hashlib, os, random, sys
from pathlib import Path
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.mount import RemoteMount
from airflow_mlpipe.storage.selection import dataset_files
how, what, endpoint, account, key, folder = sys.argv[1:]
store = open_store("bench", "az://bench", {"endpoint": endpoint, "account_name": account, "account_key": key})
if how == "make":
    store.create_container()
    store.put(Path(folder), "data")
    sys.exit()
spec = DatasetSpec(kind="file", sources=(DatastorePath(datastore="bench", path="data"),))
mount = None
if how == "mount":
    mount = RemoteMount(dataset_files(spec, lambda name: store), Path(folder))
else:
    store.fetch(store.listing("data"), Path(folder), base="data")
seen = hashlib.blake2b()
with open(Path(folder, "large"), "rb", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    if what == "all":
        while data := file.read(1 << 20):
            seen.update(data)
    else:
        at = random.Random(1)
        for _ in range(10):
            file.seek(at.randrange(size - size // 100))
            left = size // 100
            while left and (data := file.read(min(left, 1 << 20))):
                seen.update(data)
                left -= len(data)
peak_kb = 0
if mount is not None:
    status = Path(f"/proc/{mount.pid}/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    mount.close()
print(seen.hexdigest(), peak_kb)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=1024)
    given = parser.parse_args()
    reason = emulators.missing(emulators.AZURITE) or mounting.missing()
    if reason:
        sys.exit(reason)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mlpipe-mounts-") as place, emulators.azure() as endpoint:
        source = Path(place, "source")
        source.mkdir()
        block = os.urandom(64 << 20)
        with (source / "large").open("wb") as file:
            for number in range(given.size_mb >> 6):
                file.write(number.to_bytes(8, "big") + block[8:])
        run("make", "", endpoint, source)
        for what, title in (("part", "a tenth, in ten places"), ("all", "all of it, in order")):
            times: dict[str, list[float]] = {"mount": [], "download": []}
            peaks = []
            for number in range(given.rounds):
                read = {}
                for how in times:
                    (read[how], peak_kb), wall_s = run(how, what, endpoint, Path(place, f"{how}-{what}-{number}"))
                    times[how].append(wall_s)
                    peaks.append(int(peak_kb) / 1024)
                if len(set(read.values())) != 1:
                    sys.exit(f"{title}: other bytes were read from the mount")
                for left in Path(place).glob("download-*/*"):
                    left.unlink()
            mine, theirs = times["mount"], times["download"]
            text = f"{min(mine):.2f} s (median {statistics.median(mine):.2f}); downloaded first {min(theirs):.2f} s "
            text += f"(median {statistics.median(theirs):.2f}); ratio {min(mine) / min(theirs):.2f}"
            rows.append((f"one file of {given.size_mb:,} MB: {title}, mounted", text, ""))
            rows.append((f"one file of {given.size_mb:,} MB: {title}, peak of the mount", f"{max(peaks):.0f} MB", ""))
    print("| what | measured | asked |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def run(how: str, what: str, endpoint: str, folder: Path) -> tuple[list[str], float]:
    """Return a digest of what was read and the peak of the mount's memory in KB, and how long the process took."""
    given = [how, what, endpoint, emulators.AZURE_ACCOUNT, emulators.AZURE_KEY, str(folder)]
    done = call([sys.executable, "-c", SCRIPT, *given], folder.parent, os.environ)
    return done.output.split(), done.wall_s


if __name__ == "__main__":
    main()
