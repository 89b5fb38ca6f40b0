"""Other tools, each in an environment of its own in the folder that MLPIPE_BENCH_PEERS names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "dvc": ["dvc"],
    "snakemake": ["snakemake"],
    "redun": ["redun", "setuptools"],
    "hamilton": ["sf-hamilton"],
}
INSTALL_S = 900


def peer(name: str) -> Path | None:
    """Return the folder of a tool's programs, or None if it is not installed."""
    folder = os.environ.get("MLPIPE_BENCH_PEERS")
    programs = Path(folder, name, "bin").absolute() if folder else None
    return programs if programs is not None and (programs / "installed").exists() else None


def missing(name: str) -> str:
    """Tell why a tool is not there."""
    folder = os.environ.get("MLPIPE_BENCH_PEERS")
    if not folder:
        return "skipped: MLPIPE_BENCH_PEERS names no folder of peers; make one with: bench/peers.py FOLDER"
    note = Path(folder, name, "failed")
    return f"does not install: {note.read_text()}" if note.exists() else f"skipped: {name} is not in {folder}"


def install(folder: Path) -> None:
    """Install each tool from PyPI; one that cannot be had leaves the reason."""
    for name, packages in PACKAGES.items():
        home = folder / name
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        try:
            done = subprocess.run(
                [str(home / "bin/pip"), "install", "-q", *packages],
                capture_output=True, text=True, check=False, timeout=INSTALL_S,
            )  # fmt: skip
            problem = done.stderr.strip().splitlines()[-1:] if done.returncode else None
        except subprocess.TimeoutExpired:
            problem = [f"pip took longer than {INSTALL_S} s"]
        if problem is None:
            (home / "bin/installed").touch()
        else:
            (home / "failed").write_text(problem[0] if problem else "pip failed without a word")
        print(f"{name}: {'installed' if problem is None else problem}", flush=True)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
