"""Azure's sizes of virtual machines: processors, memory and GPUs of each, as Azure publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlpipe.errors import ConfigError, ParameterError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.quantity import GIB, gpu_count, processors, size_bytes

SETTING = "vm_sizes"
"""Setting of the workspace with sizes of its own: ``{"STANDARD_X": {"cpus": 4, "memory": "16g", "gpus": 0}}``."""

# NAME: processors, GiB, GPUs. A name stands once for its variants: {s} with and without premium disks.
_PUBLISHED = """
A1_v2 1 2 0; A2_v2 2 4 0; A4_v2 4 8 0; A8_v2 8 16 0; A2m_v2 2 16 0; A4m_v2 4 32 0; A8m_v2 8 64 0
A0 1 0.75 0; A1 1 1.75 0; A2 2 3.5 0; A3 4 7 0; A4 8 14 0; A5 2 14 0; A6 4 28 0; A7 8 56 0
B1s 1 1 0; B1ms 1 2 0; B2s 2 4 0; B2ms 2 8 0; B4ms 4 16 0; B8ms 8 32 0; B12ms 12 48 0; B16ms 16 64 0; B20ms 20 80 0
D1 1 3.5 0; D2 2 7 0; D3 4 14 0; D4 8 28 0; D11 2 14 0; D12 4 28 0; D13 8 56 0; D14 16 112 0
DS1 1 3.5 0; DS2 2 7 0; DS3 4 14 0; DS4 8 28 0; DS11 2 14 0; DS12 4 28 0; DS13 8 56 0; DS14 16 112 0
D{S}1_v2 1 3.5 0; D{S}2_v2 2 7 0; D{S}3_v2 4 14 0; D{S}4_v2 8 28 0; D{S}5_v2 16 56 0
D{S}11_v2 2 14 0; D{S}12_v2 4 28 0; D{S}13_v2 8 56 0; D{S}14_v2 16 112 0; D{S}15_v2 20 140 0
D2{s}_v3 2 8 0; D4{s}_v3 4 16 0; D8{s}_v3 8 32 0; D16{s}_v3 16 64 0; D32{s}_v3 32 128 0; D48{s}_v3 48 192 0
D64{s}_v3 64 256 0; D2{s}_v4 2 8 0; D4{s}_v4 4 16 0; D8{s}_v4 8 32 0; D16{s}_v4 16 64 0; D32{s}_v4 32 128 0
D48{s}_v4 48 192 0; D64{s}_v4 64 256 0; D2{s}_v5 2 8 0; D4{s}_v5 4 16 0; D8{s}_v5 8 32 0; D16{s}_v5 16 64 0
D32{s}_v5 32 128 0; D48{s}_v5 48 192 0; D64{s}_v5 64 256 0; D96{s}_v5 96 384 0
E2{s}_v3 2 16 0; E4{s}_v3 4 32 0; E8{s}_v3 8 64 0; E16{s}_v3 16 128 0; E20{s}_v3 20 160 0; E32{s}_v3 32 256 0
E48{s}_v3 48 384 0; E64{s}_v3 64 432 0; E2{s}_v4 2 16 0; E4{s}_v4 4 32 0; E8{s}_v4 8 64 0; E16{s}_v4 16 128 0
E20{s}_v4 20 160 0; E32{s}_v4 32 256 0; E48{s}_v4 48 384 0; E64{s}_v4 64 504 0
E2ds_v4 2 16 0; E4ds_v4 4 32 0; E8ds_v4 8 64 0; E16ds_v4 16 128 0; E32ds_v4 32 256 0; E64ds_v4 64 504 0
F1{s} 1 2 0; F2{s} 2 4 0; F4{s} 4 8 0; F8{s} 8 16 0; F16{s} 16 32 0
F2s_v2 2 4 0; F4s_v2 4 8 0; F8s_v2 8 16 0; F16s_v2 16 32 0; F32s_v2 32 64 0; F48s_v2 48 96 0; F64s_v2 64 128 0
F72s_v2 72 144 0
NC6 6 56 1; NC12 12 112 2; NC24 24 224 4; NC24r 24 224 4
NC6s_v2 6 112 1; NC12s_v2 12 224 2; NC24s_v2 24 448 4; NC24rs_v2 24 448 4
NC6s_v3 6 112 1; NC12s_v3 12 224 2; NC24s_v3 24 448 4; NC24rs_v3 24 448 4
NC4as_T4_v3 4 28 1; NC8as_T4_v3 8 56 1; NC16as_T4_v3 16 110 1; NC64as_T4_v3 64 440 4
NC24ads_A100_v4 24 220 1; NC48ads_A100_v4 48 440 2; NC96ads_A100_v4 96 880 4
ND6s 6 112 1; ND12s 12 224 2; ND24s 24 448 4; ND24rs 24 448 4; ND40rs_v2 40 672 8
ND96asr_v4 96 900 8; ND96amsr_A100_v4 96 1900 8
NV6 6 56 1; NV12 12 112 2; NV24 24 224 4; NV6s_v2 6 112 1; NV12s_v2 12 224 2; NV24s_v2 24 448 4
NV12s_v3 12 112 1; NV24s_v3 24 224 2; NV48s_v3 48 448 4
"""


def _table() -> dict[str, Resources]:
    table = {}
    for entry in _PUBLISHED.replace("\n", ";").split(";"):
        if entry.strip():
            name, cpus, gib, gpus = entry.split()
            size = Resources(cpus=float(cpus), memory_bytes=round(float(gib) * GIB), gpus=int(gpus))
            for letter in ("S", "s"):
                name = name.replace(f"{{{letter}}}", "{}")
            for variant in ("", "S") if "{}" in name else ("",):
                table[f"STANDARD_{name.format(variant)}".upper()] = size
    return table


PUBLISHED: Mapping[str, Resources] = _table()
"""What a machine of each size has, by its name in capitals."""


def known_sizes(settings: Mapping[str, Any]) -> dict[str, Resources]:
    """Return all sizes by name in capitals: the published ones, and over them those of the setting ``vm_sizes``.

    Raises:
        ConfigError: if the setting is malformed.
    """
    own = settings.get(SETTING) or {}
    if not isinstance(own, Mapping):
        raise ConfigError(f"setting '{SETTING}' is {own!r}; it is an object of sizes by name")
    return {**PUBLISHED, **{name.upper(): _own(name, size) for name, size in own.items()}}


def size_of(name: str, settings: Mapping[str, Any]) -> Resources | None:
    """Return what a machine of the size `name` has, or None if nothing is known of it.

    Raises:
        ConfigError: if the setting ``vm_sizes`` is malformed.
    """
    return known_sizes(settings).get(name.upper())


def unknown_size(name: str, settings: Mapping[str, Any]) -> str:
    """Return what to say of a size that is not known: its nearest names, and how to make it known."""
    meant = nearest(name.upper(), known_sizes(settings))
    return (
        f"vm_size '{name}' is not known{meant or ';'} what its machines have is left open; to say it, set '{SETTING}' "
        f'in the workspace\'s settings: {{"{name}": {{"cpus": 4, "memory": "16g", "gpus": 0}}}}'
    )


def _own(name: str, size: object) -> Resources:
    allowed = {"cpus", "memory", "gpus"}
    if not isinstance(size, Mapping) or not size or not allowed.issuperset(size):
        raise ConfigError(
            f"setting '{SETTING}', '{name}': {size!r} is not a size; "
            'for example: {"cpus": 4, "memory": "16g", "gpus": 0}'
        )
    what = f"setting '{SETTING}', '{name}'"
    try:
        return Resources(
            cpus=processors(size["cpus"], f"{what}: cpus") if "cpus" in size else None,
            memory_bytes=size_bytes(size["memory"], f"{what}: memory") if "memory" in size else None,
            gpus=gpu_count(size.get("gpus", 0), f"{what}: gpus"),
        )
    except ParameterError as error:
        raise ConfigError(error.message) from None
