"""The image of an environment: the text of its Dockerfile and the files beside it. Nothing is built here.

The same lock and base give the same bytes, so the digest of a recipe names its image. Where packages come from is the
builder's business: it is passed as build arguments and never stands in a file, a layer or the history.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.execution.core import INSIDE, PACKAGE, core_beside
from airflow_mlpipe.execution.image_arguments import TAKE_INDEXES, TRUSTED_HOST
from airflow_mlpipe.model.digest import Digest, digest_bytes, digest_json
from airflow_mlpipe.model.environment import EnvironmentLock

DOCKERFILE = "Dockerfile"
_NAME = r"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./:@_-"
_CORE = "/opt/mlpipe"


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """How the image of an environment is built.

    Attributes:
        dockerfile: its text.
        files: what lies beside it in the build context: path -> content; the Dockerfile is not among them.
        digest: of all of that.
    """

    dockerfile: str
    files: Mapping[str, bytes]
    digest: Digest


def image_recipe(lock: EnvironmentLock | None, base: str, *, pip: str = "python -m pip") -> ImageRecipe:
    """Return how the image of an environment is built on a base image.

    In the image ``python`` has the lock's packages, and this package's light core.

    Args:
        lock: the packages; None for no others than the core needs.
        base: name of the image to build on, with tag or digest; it has Python and pip.
        pip: how pip is called in it.

    Raises:
        ParameterError: if `base` is no name of an image, or the packages come from conda.
    """
    if not base or base.startswith("-") or set(base) - set(_NAME):
        raise ParameterError(f"base image {base!r} is not the name of an image, such as 'python:3.11-slim'")
    if lock is not None and lock.conda:
        raise ParameterError(
            f"an image on '{base}' cannot be built of packages that conda has chosen; choose them where conda is not "
            "on the PATH, from the Python package index"
        )
    files = {"requirements.txt": _requirements(lock), **_core_files()}
    dockerfile = _dockerfile(lock, base, pip)
    described = {path: digest_bytes(content) for path, content in files.items()}
    return ImageRecipe(dockerfile, files, digest_json("image recipe", [dockerfile, described]))


def _requirements(lock: EnvironmentLock | None) -> bytes:
    packages = () if lock is None else lock.packages
    # The image has a pip.
    core = [line for line in core_beside(lock) if line.partition("==")[0] not in INSIDE]
    return "".join(f"{line}\n" for line in (*packages, *core)).encode()


def _core_files() -> dict[str, bytes]:
    """Return this package's own files, by their path in the build context, in a fixed order."""
    found = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"core/{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in found}


def _pip_words(options: Sequence[str]) -> list[str]:
    """Return uv's options in pip's words."""
    if "--prerelease" in options:
        at = options.index("--prerelease")
        return [*map(shlex.quote, (*options[:at], *options[at + 2 :])), "--pre"]
    return [shlex.quote(word) for word in options]


def _dockerfile(lock: EnvironmentLock | None, base: str, pip: str) -> str:
    options = "".join(f"{word} " for word in (() if lock is None else _pip_words(lock.index_options)))
    # A Python of the base's own distribution refuses otherwise; what it protects is the image's own business.
    variable = "PIP_BREAK_SYSTEM_PACKAGES=1"
    install = (
        f"{TAKE_INDEXES}; {variable} {pip} install --no-cache-dir --disable-pip-version-check --root-user-action=ignore"
    )
    lines = [
        f"FROM {base}",
        f"ARG {TRUSTED_HOST}",
        "COPY requirements.txt /tmp/mlpipe-requirements.txt",
        f"RUN {install} {options}--requirement /tmp/mlpipe-requirements.txt && rm /tmp/mlpipe-requirements.txt",
        f"COPY core {_CORE}",
        f'RUN python -c "import pathlib, sysconfig; '
        f"pathlib.Path(sysconfig.get_path('purelib'), 'mlpipe.pth').write_text('{_CORE}')\"",
    ]
    return "".join(f"{line}\n" for line in lines)
