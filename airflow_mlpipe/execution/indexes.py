"""Where packages come from: what the machine says, and what of an environment's pip options the workspace allows.

A definition that names an index decides whose code runs here, under the name of a package that people trust. So an
index counts only if the workspace's setting ``package_indexes`` lists its URL, and one that is not listed is an error:
left out silently, a private package's name would be looked for on the public index, where anybody may have taken it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from airflow_mlpipe.errors import ParameterError

_WITH_URL = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_IGNORED = frozenset({"--no-cache-dir", "--upgrade", "-U", "--prefer-binary"})
RETIRED = ("azuremlsdktestpypi.", "azuremlsdktestpypi-")
"""How hosts of the retired SDK's test releases begin, whose packages are not installed anyway."""

_HOST_SETTINGS = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_CERT": "SSL_CERT_FILE"}
"""A machine's settings for pip that count as long as it has none for uv."""


def check_pip_option(text: str) -> str:
    """Return an option of pip, if it is one that an environment may have.

    Raises:
        ParameterError: if it is not known, or holds a password.
    """
    list(_parsed([text], "pip option"))
    return text


def index_options(options: Iterable[str], allowed: Collection[str], where: str) -> tuple[str, ...]:
    """Return the options that a resolver and an installer get.

    Args:
        options: of the environment, e.g. ``--extra-index-url https://packages.example.com/simple``.
        allowed: URLs that the workspace's setting ``package_indexes`` lists.
        where: what it is the environment of, for errors.

    Raises:
        ParameterError: if an option is not known, or names an index that is not allowed.
    """
    listed = {url.rstrip("/") for url in allowed}
    words: list[str] = []
    for option, url in _parsed(options, where):
        if url is None:
            words += ["--prerelease", "allow"] if option == "--pre" else []
        elif (urlsplit(url).hostname or "").startswith(RETIRED):
            continue
        elif url.rstrip("/") not in listed:
            raise ParameterError(
                f"{where}: {option} {url} is not allowed: packages from there would run on this workspace's machines; "
                f'add it to its settings if it may: "package_indexes": ["{url}"]'
            )
        else:
            words += [option, url]
    return tuple(words)


def host_variables(parent: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the machine says about package indexes, in uv's words."""
    found = {name: value for name, value in parent.items() if name.startswith("UV_")}
    for theirs, ours in _HOST_SETTINGS.items():
        if parent.get(theirs):
            found.setdefault(ours, parent[theirs])
    return found


def _parsed(options: Iterable[str], where: str) -> Iterable[tuple[str, str | None]]:
    for text in options:
        try:
            words = shlex.split(text)
        except ValueError:
            words = []
        name, equals, value = words[0].partition("=") if words else ("", "", "")
        url = value if equals else (words[1] if len(words) == 2 else None)
        if len(words) == 1 and (name == "--pre" or name in _IGNORED):
            yield name, None
        elif name in _WITH_URL and url and len(words) == (1 if equals else 2) and _is_url(url):
            yield _WITH_URL[name], url
        else:
            raise ParameterError(
                f"{where}: {text!r} is not allowed; give --index-url, --extra-index-url or --find-links with a URL "
                "without user and password (those belong into the machine's own settings), or --pre"
            )


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return text.isprintable() and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
