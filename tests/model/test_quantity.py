from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.quantity import GIB, gpu_count, processors, size_bytes, size_text


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("8g", 8 * GIB), ("512m", 512 << 20), ("1.5 GB", 3 * GIB // 2), ("8Gi", 8 * GIB), ("64KiB", 64 << 10),
        ("100b", 100), (8.5, 17 * GIB // 2), (2, 2 * GIB),
    ],
)  # fmt: skip
def test_sizes(given, size):
    assert size_bytes(given, "memory") == size


@pytest.mark.parametrize("given", ["8", "", "g", "-1g", "0m", "8x", "1e9g", 0, -1, True, None, float("nan"), ["8g"]])
def test_sizes_that_are_refused(given):
    with pytest.raises(ParameterError) as error:
        size_bytes(given, "memory")
    assert error.value.message.startswith(f"memory={given!r} is not allowed; give a text with a unit such as '512m'")


def test_processors_and_gpus():
    assert [processors(given, "cpus") for given in (2, 0.5, "2", "500m")] == [2.0, 0.5, 2.0, 0.5]
    assert [gpu_count(given, "gpus") for given in (0, 1, -1, "2", "all")] == [0, 1, -1, 2, -1]
    for given in (0, -1, "x", True, None, float("inf")):
        with pytest.raises(ParameterError, match="cpus="):
            processors(given, "cpus")
    for given in (-2, 0.5, "x", True, None, "device=0"):
        with pytest.raises(ParameterError, match="gpus="):
            gpu_count(given, "gpus")


def test_sizes_for_people():
    assert [size_text(size) for size in (8 * GIB, 512 << 20, 3 * GIB // 2, 2048, 7)] == [
        "8 GiB", "512 MiB", "1.5 GiB", "2 KiB", "7 bytes",
    ]  # fmt: skip
