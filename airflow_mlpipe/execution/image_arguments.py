"""What a machine tells the build of an image - package indexes with their logins, proxies - and nobody else.

A build argument stays in the image's history, for everybody who may pull it. Docker keeps those that stand for proxies
out of history, layers and configuration; the one that no installer has a use for carries the indexes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from airflow_mlpipe.errors import ConfigError

INDEXES = "FTP_PROXY"
"""The build argument that carries the indexes: ``mlpipe INDEX EXTRA...``, with ``-`` for no INDEX."""

TRUSTED_HOST = "PIP_TRUSTED_HOST"
"""The build argument that a Dockerfile has to name, and that stays in the image's history."""

TAKE_INDEXES = (
    f'case "${INDEXES}" in "mlpipe "*) set -f; set -- ${INDEXES}; unset {INDEXES}; '
    '[ "$2" = - ] || export PIP_INDEX_URL="$2"; shift 2; [ -z "$*" ] || export PIP_EXTRA_INDEX_URL="$*";; esac'
)
"""What a shell runs in the build before pip."""

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_URLS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


def plain_arguments(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the build of a user's own Dockerfile may ask for, under the names that the machine has it by."""
    given = {name: environ.get(name) or environ.get(name.lower()) for name in (*_URLS, TRUSTED_HOST, *_PROXIES)}
    return {name: value for name, value in given.items() if value}


def recipe_arguments(taken: Collection[str], base: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the build of a recipe gets.

    An index without user and password gets those that the machine's netrc has for its host, as where packages are
    installed on the machine itself.

    Args:
        taken: names of the variables that the base image sets, which go before arguments.
        base: name of that image, for errors.
        environ: the machine's variables.

    Raises:
        ConfigError: if the indexes cannot be passed, or the netrc cannot be read.
    """
    given = plain_arguments(environ)
    index, extra = (given.pop(name, "").split() for name in _URLS)
    if index or extra:
        if INDEXES in taken:
            raise ConfigError(
                f"base image '{base}' sets the variable {INDEXES}, by which this machine's package indexes "
                f"({', '.join(_URLS)}) are passed to the build; take an image that does not"
            )
        logins = _logins(environ)
        urls = (url if url == "-" else _with_login(url, logins) for url in (*(index[:1] or ["-"]), *extra))
        given[INDEXES] = " ".join(["mlpipe", *urls])
    return given


def _logins(environ: Mapping[str, str]) -> netrc | None:
    place = Path(environ.get("NETRC") or Path(environ.get("HOME") or Path.home(), ".netrc"))
    if not place.is_file():
        return None
    try:
        return netrc(str(place))
    except (NetrcParseError, OSError, UnicodeDecodeError) as error:
        # Not what it says of a line: that may hold a password.
        line = f", line {error.lineno}" if isinstance(error, NetrcParseError) else ""
        raise ConfigError(f"'{place}'{line}: logins of package indexes cannot be read; correct the file") from None


def _with_login(url: str, logins: netrc | None) -> str:
    parts = urlsplit(url)
    if logins is None or "@" in parts.netloc or parts.scheme not in ("http", "https") or not parts.hostname:
        return url
    found = logins.authenticators(parts.hostname)
    if found is None:
        return url
    user, account, password = found
    login = f"{quote(user or account or '', safe='')}:{quote(password or '', safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
