"""An OpenSSH server of this machine on 127.0.0.1, for the user that runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class SshServer:
    """A server, and how it is logged in to.

    Attributes:
        port: on 127.0.0.1.
        user: that may log in.
        key: file with the private key of `user`.
        home: folder with ``.ssh/known_hosts``, which knows the server.
    """

    port: int
    user: str
    key: Path
    home: Path


def missing() -> str | None:
    """Why there can be no server here, or None."""
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None:
        return "no OpenSSH server: apt-get install openssh-server"
    return None


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server in this block; its keys and its log lie in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True)
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    kind, public, *_ = (folder / "host.pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
    try:
        _listening(port, server, folder / "log")
        yield SshServer(port, getpass.getuser(), folder / "user", home)
    finally:
        server.terminate()
        server.wait()


def _listening(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
