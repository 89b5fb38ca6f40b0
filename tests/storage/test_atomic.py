"""System errors in our words, and files that are whole or absent."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError, StorageError
from airflow_mlpipe.storage.atomic import copy_bytes, replacing, system_errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_with_path_code_and_advice() -> None:
    with (
        pytest.raises(StorageError, match=r"cannot write '/x/y': No space left on device \(ENOSPC\); free some space"),
        system_errors("write", "/x/y"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_other_errors(code: int) -> None:
    with pytest.raises(StorageError, match=errno.errorcode[code]), system_errors("read", "p"):
        raise OSError(code, os.strerror(code))


def test_a_write_that_the_system_ends_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from airflow_mlpipe.errors import StorageError; from airflow_mlpipe.storage.datastore import LocalStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store = LocalStore('s', Path(sys.argv[1])); store.write_bytes('f', b'old')\n"
        "try: store.write_bytes('f', b'x' * 10000)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "(EFBIG)" in done.stdout and f"'{tmp_path}/f'" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_missing_file_has_its_own_error() -> None:
    with pytest.raises(MissingDataError, match="cannot read 'p'"), system_errors("read", "p"):
        Path("/nowhere/at/all").read_bytes()


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "f") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_copies_are_exact(size: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(size))
    with (tmp_path / "a").open("rb", buffering=0) as source, replacing(tmp_path / "b") as target:
        copy_bytes(source, target)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    # From a pipe, which the kernel cannot copy by ranges.
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as source, replacing(tmp_path / "c") as target:
        copy_bytes(source, target)
    assert (tmp_path / "c").read_bytes() == b"through a pipe"
