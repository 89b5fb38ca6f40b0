"""Writes a workspace as the release at hand writes it, to be read by later ones: ``make.py RELEASE.tar.gz``.

Run it once for a release, with that release as ``airflow_mlpipe`` and tests/support on PYTHONPATH, and never again:
what users have on their disks does not change either.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from fault_site import FaultSite

LIVE = ("catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock")


def main(target: Path) -> None:
    """Runs that computed, reused, failed and were damaged, and what belongs to them."""
    root = Path(tempfile.mkdtemp())
    site = FaultSite.make(root / "site")
    text = (site.source / "make.sh").read_text()
    damaged = site.run()
    site.catalog.mark_doubtful(site.result(damaged).id, "output 'out' has changed bytes")
    shutil.rmtree(site.output(damaged))
    site.chain()
    site.chain()
    site.run(site.make_step(script='mkdir "$1"; exit 3'), name="fails")
    (site.source / "make.sh").write_text(text)
    site.close()
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database:
        database.execute("VACUUM INTO ?", (str(root / "catalog.db"),))
    with closing(sqlite3.connect(root / "catalog.db")) as database:
        # The stores are named anew where it is unpacked.
        database.execute("DELETE FROM datastores")
        database.commit()
        database.execute("PRAGMA journal_mode=WAL")
    # Inodes and times of another machine are of no use.
    for name in ("index.db", "index.db-wal", "index.db-shm", "index.db.lock", "installed.json", "work", *LIVE):
        path = site.dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (root / "catalog.db").rename(site.dir / "catalog.db")
    with tarfile.open(target, "w:gz") as archive:
        archive.add(site.folder, "site", filter=_anonymous)
    shutil.rmtree(root)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    main(Path(sys.argv[1]))
