"""Running uv, which resolves and installs packages, and telling what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from airflow_mlpipe.errors import EnvironmentBuildError, StepStoppedError
from airflow_mlpipe.execution.indexes import host_variables
from airflow_mlpipe.execution.processes import dying_with_parent

STOP_CHECK_S = 0.25
"""How often a tool that works asks whether it should stop."""

Say = Callable[[str], None]
"""Takes a line of progress."""

_PASSED = (
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TMPDIR", "USER", "LOGNAME", "XDG_CACHE_HOME"),
    *("XDG_CONFIG_HOME", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"),
)
"""What tools inherit. Building a package from its source runs its code: it must see nothing of Airflow's secrets."""

_DRAWING = re.compile(r"[×╰─▶├│╭╮╯↳┌└]+")


def silent(line: str) -> None:
    """Take a line of progress, and tell nobody."""


def never() -> None:
    """Give no reason to stop."""


def find_uv() -> str:
    """Return the path of uv's program.

    Raises:
        EnvironmentBuildError: if it is not installed.
    """
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise EnvironmentBuildError(
            'uv is not installed, and environments are built by it: pip install uv, or set "environments": "current" '
            "in the workspace's settings to run steps on the interpreter as it is"
        )
    return found


def tool_variables(parent: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a tool that resolves or installs."""
    kept = {name: parent[name] for name in _PASSED if name in parent}
    own = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    # What the machine trusts: behind a company's proxy uv's own list is not enough.
    return {"UV_SYSTEM_CERTS": "true", **kept, **host_variables(parent), **own}


def run_tool(argv: Sequence[str], failure: str, *, say: Say = silent, stop: Callable[[], str | None] = never) -> str:
    """Run a tool to its end and return what it printed to its standard output.

    Args:
        argv: its command.
        failure: what cannot be done if it fails, for the error.
        say: given each line of its progress.
        stop: asked every 0.25 s; an answer other than None is the reason to end it.

    Raises:
        EnvironmentBuildError: if it fails; the message ends in its own.
        StepStoppedError: if it was ended on request.
    """
    command, before_exec = dying_with_parent(list(argv))
    # Not where the caller works: a project's own settings for uv are not those of another machine.
    with tempfile.TemporaryDirectory(prefix="mlpipe-") as folder, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=tool_variables(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            preexec_fn=before_exec,
        )
        said: list[str] = []
        reader = threading.Thread(target=_follow, args=(process, said, say), daemon=True)
        reader.start()
        try:
            reason = _wait(process, stop)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()
        if reason is not None:
            raise StepStoppedError(f"{failure}: {reason}")
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    if process.returncode != 0:
        raise EnvironmentBuildError(f"{failure}: {_told(said, argv[0], process.returncode)}")
    return printed


def _follow(process: subprocess.Popen[bytes], said: list[str], say: Say) -> None:
    assert process.stderr is not None
    with process.stderr:
        for raw in process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            said.append(line)
            if line:
                say(line)


def _wait(process: subprocess.Popen[bytes], stop: Callable[[], str | None]) -> str | None:
    while True:
        try:
            process.wait(STOP_CHECK_S)
            return None
        except subprocess.TimeoutExpired:
            reason = stop()
            if reason is not None:
                return reason


def _told(said: Sequence[str], tool: str, code: int) -> str:
    """Return a tool's own message in one line."""
    lines = [_DRAWING.sub(" ", line) for line in said if not line.startswith(("warning:", "Using Python"))]
    text = re.sub(r"\s+", " ", " ".join(lines)).strip().removeprefix("error: ")
    return text or f"{Path(tool).name} ended with code {code}"
