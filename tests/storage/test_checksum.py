"""Checksums that stores tell: over any parts they are those of the whole, and one turned bit is seen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_mlpipe.storage.checksum import Checksum, Crc, equal_parts
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.s3 import S3Driver

CHECK = b"123456789"
KNOWN: dict[Crc, int] = {"CRC64NVME": 0xAE8B14860A799888, "CRC32C": 0xE3069283, "CRC32": 0xCBF43926}
"""What the catalogue of CRCs says of `CHECK`."""


@pytest.fixture
def pieces_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlpipe.storage.checksum._PIECE_BYTES", 3)
    monkeypatch.setattr("airflow_mlpipe.storage.checksum._READ_BYTES", 2)


def fits(checksum: Checksum, data: bytes) -> bool:
    return checksum.fits(lambda size, start: data[start : start + size], len(data))


@pytest.mark.usefixtures("pieces_of_3")
@pytest.mark.parametrize("kind", KNOWN)
def test_checksums_of_the_whole_are_put_together(kind: Crc) -> None:
    checksum = Checksum(kind, KNOWN[kind].to_bytes(8 if kind == "CRC64NVME" else 4, "big"))
    assert fits(checksum, CHECK)
    assert not fits(checksum, b"123456788")
    assert not fits(checksum, CHECK[:-1])
    assert fits(Checksum(kind, bytes(8 if kind == "CRC64NVME" else 4)), b"")


@pytest.mark.parametrize("sizes", [(4, 5), (2, 4, 3), (9,)])
def test_the_md5_of_parts(sizes: tuple[int, ...]) -> None:
    rest, md5s = CHECK, b""
    for size in sizes:
        md5s, rest = md5s + hashlib.md5(rest[:size]).digest(), rest[size:]
    checksum = Checksum("MD5", hashlib.md5(md5s).digest(), sizes)
    assert fits(checksum, CHECK)
    assert not fits(checksum, b"123456788")
    assert not fits(checksum, CHECK + b"0")


def test_equal_parts() -> None:
    assert equal_parts(9, 3) == (3, 3, 3)
    assert equal_parts(10, 3) == (3, 3, 3, 1)
    assert equal_parts(2, 3) == (2,)
    assert equal_parts(0, 3) == (0,)


def test_a_file_is_read_by_its_descriptor(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "f").write_bytes(data)
    with (tmp_path / "f").open("rb") as file:
        checksum = Checksum("CRC32", zlib.crc32(data).to_bytes(4, "big"))
        assert checksum.fits(partial(os.pread, file.fileno()), len(data))


class Answering(S3Driver):
    """A bucket whose server answers as it is told."""

    def __init__(self, **answer: Any) -> None:
        super().__init__("bucket", "", {}, 1)
        self.answer = {"ETag": f'"{hashlib.md5().hexdigest()}-2"', "ContentLength": 9, **answer}
        self.parts = [5, 4]

    async def _call(self, method: str, **arguments: Any) -> Any:
        if "PartNumber" not in arguments:
            return self.answer
        return {"ContentLength": self.parts[arguments["PartNumber"] - 1], "PartsCount": len(self.parts)}


def told(driver: S3Driver, is_sure: bool = False) -> Checksum | None:
    return asyncio.run(driver.checksum(RemoteFile("f", 9, "e"), is_sure=is_sure))


def test_a_checksum_of_the_whole_comes_before_the_md5_of_parts() -> None:
    crc = KNOWN["CRC64NVME"].to_bytes(8, "big")
    text = base64.b64encode(crc).decode()
    assert told(Answering(ChecksumType="FULL_OBJECT", ChecksumCRC64NVME=text)) == Checksum("CRC64NVME", crc)
    # Of parts it looks the same, where the server forgets to count them.
    for answer in ({"ChecksumCRC64NVME": text}, {"ChecksumType": "COMPOSITE", "ChecksumCRC64NVME": text}):
        checksum = told(Answering(**answer))
        assert checksum is not None and (checksum.kind, checksum.parts, checksum.is_sure) == ("MD5", (5, 4), False)
    short = told(Answering(ChecksumType="FULL_OBJECT", ChecksumCRC64NVME=text[:6] + "=="))
    assert short is not None and short.kind == "MD5"


@pytest.mark.parametrize(
    "answer",
    [
        {"ETag": '"whatever-2"'},
        {"ETag": f'"{hashlib.md5().hexdigest()}"'},
        {"ServerSideEncryption": "aws:kms"},
        {"ETag": f'"{hashlib.md5().hexdigest()}-3"'},
    ],
)
def test_what_is_no_checksum_is_none(answer: dict[str, str]) -> None:
    assert told(Answering(**answer)) is None


def test_parts_are_asked_for_one_by_one_to_be_sure() -> None:
    driver = Answering()
    driver.parts = [6, 3]
    sure = told(driver, is_sure=True)
    assert sure is not None and (sure.parts, sure.is_sure) == ((6, 3), True)
    driver.parts = []
    driver.answer["ETag"] = f'"{hashlib.md5().hexdigest()}-0"'
    assert told(driver, is_sure=True) is None
