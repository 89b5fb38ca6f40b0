"""A package index of this machine, with packages made for a test: no network, and milliseconds to install."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest


class PackageIndex:
    """A folder that installers read as an index.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root.as_uri()

    def add(self, name: str, version: str, requires: Sequence[str] = (), **modules: str) -> None:
        """Add a version of a package; its one module, of the same name, has ``__version__``, unless some are given."""
        module = name.replace("-", "_")
        files = {f"{stem}.py": text for stem, text in modules.items()} or {
            f"{module}/__init__.py": f"__version__ = {version!r}\n",
            f"{module}/part.py": "",
        }
        info = f"{module}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        record = "".join(f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in files.items():
                wheel.writestr(zipfile.ZipInfo(path), text)
        links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in sorted(folder.glob("*.whl")))
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")


def only_index(folder: Path, monkeypatch: pytest.MonkeyPatch, *core: str) -> PackageIndex:
    """Make an index the only one of this machine, and `core` all that this package needs inside of an environment.

    Args:
        folder: for the index and the installer's cache.
        monkeypatch: takes it back.
        core: requirements; each is a package that the index has.
    """
    index = PackageIndex(folder / "index")
    for name in ("pip", *core):
        index.add(name, "1")
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "cache"))
    for module in ("core", "resolution"):
        monkeypatch.setattr(f"airflow_mlpipe.execution.{module}.core_requirements", lambda: core)
    return index


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
