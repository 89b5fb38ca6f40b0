"""Container images without a registry, made from this machine's own files in seconds.

An image is named by what is in it: a second session finds the first one's. One that was made over a day ago goes when
another is made.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from airflow_mlpipe.model.digest import digest_bytes

if TYPE_CHECKING:
    from container_engine import Engine

ROOT = Path(__file__).parents[2]
LABEL = "airflow-mlpipe.tests.image"
KEPT_S = 24 * 3600
# Of the standard library: what no step imports, and what is only there for this machine.
LEFT_OUT = {
    "test",
    "tests",
    "__pycache__",
    "site-packages",
    "dist-packages",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "tkinter",
}


def missing() -> str | None:
    """Return why no image can be made here, or None."""
    if shutil.which("busybox") is None:
        return "busybox is not installed: apt-get install busybox-static"
    return None


def busybox(engine: Engine) -> str:
    """Make an image that has a shell and small programs only: it stands for any image without Python.

    Returns:
        Its name with its tag, to be used like any image's.
    """
    layout = Layout(command=["/bin/sh"], path="/bin")
    layout.add_busybox()
    return _made(engine, "mlpipe-tests/busybox", layout)


def python(engine: Engine, *distributions: str) -> str:
    """Make an image with this machine's Python, its standard library and a shell.

    Args:
        engine: that has the image afterwards.
        distributions: what else is installed in it, as requirements (``airflow-mlpipe``, ``airflow-mlpipe[s3]``,
            ``pandas``), each with all it needs, taken from the environment that runs the tests.

    Returns:
        Its name with its tag.
    """
    interpreter = Path(sys._base_executable)
    layout = Layout(command=["python"], path=f"{interpreter.parent}:/bin")
    layout.add_busybox()
    site = layout.add_python(interpreter)
    for distribution in _needed(distributions):
        layout.add_distribution(distribution, site)
    name = "-".join(["mlpipe-tests/python", *(re.sub(r"\W+", "-", d).strip("-") for d in distributions)])
    return _made(engine, name, layout)


@dataclass
class Layout:
    """What lies where in an image: copies of this machine's files, links, and texts.

    Attributes:
        command: what a container runs that says nothing else.
        path: where its programs are.
    """

    command: list[str]
    path: str
    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.texts["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
        self.texts["etc/group"] = "root:x:0:\nnogroup:x:65534:\n"

    def add_file(self, path: Path, at: str | None = None) -> None:
        """Copy a file, to the same place unless told otherwise."""
        self.files[(at or str(path)).lstrip("/")] = path.resolve()

    def add_tree(self, folder: Path, at: str | None = None) -> None:
        """Copy a folder without what `LEFT_OUT` names."""
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-3")]
            for name in names:
                path = Path(parent, name)
                self.add_file(path, f"{at or folder}/{path.relative_to(folder)}")

    def add_busybox(self) -> None:
        """A shell and small programs."""
        program = Path(shutil.which("busybox") or "").resolve()
        self.add_file(program, "bin/busybox")
        self._add_libraries([program])
        listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
        # It names itself, and a link to itself would be in its place.
        self.links.update({f"bin/{applet}": "/bin/busybox" for applet in listed.split() if applet != "busybox"})
        self.links["usr/bin/env"] = "/bin/busybox"

    def add_python(self, interpreter: Path) -> str:
        """The interpreter, its standard library and what both load; returns its folder of packages."""
        asked = (
            "import site, sysconfig; p = sysconfig.get_path; "
            "print(site.getsitepackages()[0], p('stdlib'), p('platstdlib'), sep='\\n')"
        )
        # -I -S would hide the folder of packages: what the user's environment adds must not count.
        environment = {"PATH": os.defpath}
        done = subprocess.run(
            [interpreter, "-I", "-c", asked], env=environment, capture_output=True, text=True, check=True
        )
        site, *libraries = done.stdout.splitlines()
        self.add_file(interpreter)
        for name in ("python3", "python"):
            if name != interpreter.name:
                self.links[f"{interpreter.parent}/{name}".lstrip("/")] = interpreter.name
        for folder in sorted(set(libraries)):
            self.add_tree(Path(folder))
        extensions = [path for path in self.files.values() if path.suffix == ".so"]
        self._add_libraries([interpreter, *extensions])
        return site

    def add_distribution(self, distribution: importlib.metadata.Distribution, site: str) -> None:
        """An installed distribution; this project's own as it lies in its working copy."""
        extensions = []
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts or file.name.startswith("__editable__"):
                continue
            if path.is_file():
                self.add_file(path, f"{site}/{file}")
                extensions += [path] if path.suffix == ".so" else []
        if distribution.metadata["Name"] == "airflow-mlpipe":
            self.add_tree(ROOT / "airflow_mlpipe", f"{site}/airflow_mlpipe")
        self._add_libraries(extensions)

    def _add_libraries(self, programs: Sequence[Path]) -> None:
        """The shared libraries that programs load, where the loader looks for them here."""
        if not programs:
            return
        # Fails for a static program: it needs none.
        listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
        for found in set(re.findall(r"(/\S+\.so\S*) \(0x", listed)):
            if found.lstrip("/") not in self.files:
                self.add_file(Path(found))

    def digest(self) -> str:
        """The identity of all of it. Files count by size and time: to read them takes as long as to make the image."""
        lines = [f"{self.command} {self.path}"]
        for at, path in sorted(self.files.items()):
            stat = path.stat()
            lines.append(f"{at} {stat.st_size} {stat.st_mtime_ns} {stat.st_mode:o}")
        lines += [f"{at} -> {target}" for at, target in sorted(self.links.items())]
        lines += [f"{at} = {text!r}" for at, text in sorted(self.texts.items())]
        return digest_bytes("\n".join(lines).encode())

    def write(self, archive: tarfile.TarFile) -> None:
        """Write it as an image's root folder."""
        for name, mode in [
            ("tmp", 0o1777),
            ("var/tmp", 0o1777),
            ("root", 0o700),
            *((n, 0o755) for n in ("proc", "sys", "dev")),
        ]:
            archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for at, path in sorted(self.files.items()):
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                archive.addfile(_entry(at, tarfile.REGTYPE, stat.st_mode & 0o777, stat.st_size), file)
        for at, target in sorted(self.links.items()):
            entry = _entry(at, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            archive.addfile(entry)
        for at, text in sorted(self.texts.items()):
            content = text.encode()
            archive.addfile(_entry(at, tarfile.REGTYPE, 0o644, len(content)), io.BytesIO(content))


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry


def _needed(requirements: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """Return the installed distributions that requirements mean, with all that those need."""
    found: dict[tuple[str, str], importlib.metadata.Distribution] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in ("", *requirement.extras):
            key = (requirement.name, asked)
            if key in found:
                continue
            try:
                found[key] = importlib.metadata.distribution(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                # A requirement that this platform does not install, such as a backport.
                continue
            waiting += [(Requirement(text), asked) for text in found[key].requires or ()]
    return list({d.metadata["Name"]: d for d in found.values()}.values())


def _made(engine: Engine, name: str, layout: Layout) -> str:
    """Return the image's full name, after making it where the engine does not have it."""
    from docker.errors import ImageNotFound

    digest = layout.digest()
    tag = digest.rpartition(":")[2][:16]
    with _one_at_a_time():
        try:
            engine.client.images.get(f"{name}:{tag}")
        except ImageNotFound:
            _remove_old(engine)
            with tempfile.TemporaryFile() as file:
                with tarfile.open(fileobj=file, mode="w") as archive:
                    layout.write(archive)
                file.seek(0)
                _import(engine, file, name, tag, layout)
    return f"{name}:{tag}"


def _import(engine: Engine, file: object, name: str, tag: str, layout: Layout) -> None:
    changes = [f"CMD {layout.command}".replace("'", '"'), f"ENV PATH={layout.path}", f"LABEL {LABEL}={name}"]
    api = engine.client.api
    # The tag comes with the image, so nobody ever sees half of one.
    parameters = {"fromSrc": "-", "repo": name, "tag": tag, "changes": changes}
    answer = api._post(api._url("/images/create"), params=parameters, data=file, timeout=120)
    answer.raise_for_status()
    if "errorDetail" in answer.text:
        raise AssertionError(f"{name} could not be made: {answer.text[-500:]}")


def _remove_old(engine: Engine) -> None:
    from docker.errors import APIError

    for image in engine.client.images.list(filters={"label": LABEL}):
        made_at = datetime.fromisoformat(re.sub(r"\.\d+", "", image.attrs["Created"])).timestamp()
        if time.time() - made_at > KEPT_S:
            for tag in image.tags:
                try:
                    engine.client.images.remove(tag)
                except APIError:
                    # A container uses it, or another session was faster.
                    continue


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two sessions from making the same image: the later tag would leave the earlier image without a name."""
    with Path(tempfile.gettempdir(), f"mlpipe-tests-images-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
