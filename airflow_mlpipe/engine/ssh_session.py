"""A machine reached by SSH: its files, and one process at a time."""

from __future__ import annotations

import os
import posixpath
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, PermissionDeniedError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec

if TYPE_CHECKING:
    from paramiko import Channel, SFTPClient, SSHClient


class SshSession:
    """An open connection to the machine of a compute target."""

    def __init__(self, client: SSHClient, sftp: SFTPClient) -> None:
        """Take over an SSH connection and its file channel."""
        self._client = client
        self._sftp = sftp
        self._made: set[str] = set()

    def folder(self, path: str) -> str:
        """Return a folder as an absolute path; ``~`` is the user's home."""
        home = self._sftp.normalize(".")
        return posixpath.join(home, path.removeprefix("~").lstrip("/")) if path.startswith("~") else path

    def make(self, folder: str) -> None:
        """Make a folder and those above it."""
        missing = []
        while folder not in self._made and not self._is_there(folder):
            missing.append(folder)
            folder = posixpath.dirname(folder)
        for each in reversed(missing):
            # Another step may be making it.
            with suppress(OSError):
                self._sftp.mkdir(each, 0o700)
            self._made.add(each)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file or a folder there. Links count as what they mean."""
        if local.is_file():
            self.make(posixpath.dirname(remote))
            self._sftp.put(str(local), remote)
            status = local.stat()
            self._sftp.chmod(remote, stat.S_IMODE(status.st_mode))
            self._sftp.utime(remote, (status.st_atime, status.st_mtime))
            return
        for folder, _, names in os.walk(local, followlinks=True):
            inside = Path(folder).relative_to(local).as_posix()
            place = remote if inside == "." else posixpath.join(remote, inside)
            self.make(place)
            for name in names:
                self.put(Path(folder, name), posixpath.join(place, name))

    def write(self, text: str, remote: str) -> None:
        """Write a file that only its owner may read."""
        with self._sftp.open(remote, "w") as file:
            self._sftp.chmod(remote, 0o600)
            file.write(text)

    def fetch(self, remote: str, local: Path) -> bool:
        """Copy a file or a folder from there; tell whether there is one."""
        try:
            status = self._sftp.stat(remote)
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode or 0):
            local.parent.mkdir(parents=True, exist_ok=True)
            self._sftp.get(remote, str(local))
            local.chmod(stat.S_IMODE(status.st_mode or 0o644))
            return True
        local.mkdir(parents=True, exist_ok=True)
        for entry in self._sftp.listdir_attr(remote):
            self.fetch(posixpath.join(remote, entry.filename), local / entry.filename)
        return True

    def append_new(self, remote: str, local: Path) -> None:
        """Append to a file here what its copy there has more."""
        have = local.stat().st_size if local.exists() else 0
        with suppress(FileNotFoundError), self._sftp.open(remote, "rb") as file, local.open("ab") as ours:
            file.seek(have)
            while data := file.read(1 << 20):
                ours.write(data)

    def start(self, *words: str) -> Channel:
        """Start a process and return what it is followed by; it is the leader of its process group."""
        transport = self._client.get_transport()
        assert transport is not None
        channel = transport.open_session()
        # Without a shell of the user's between, which may fork: the process itself leads its group.
        channel.exec_command(f"exec {shlex.join(words)}")
        return channel

    def run(self, line: str) -> int:
        """Run a line of the shell to its end; return its exit code."""
        return self.start("sh", "-c", line).recv_exit_status()

    def _is_there(self, path: str) -> bool:
        try:
            self._sftp.stat(path)
        except FileNotFoundError:
            return False
        self._made.add(path)
        return True


@contextmanager
def ssh_session(compute: ComputeSpec) -> Iterator[SshSession]:
    """Connect to the machine of a compute target of kind ``ssh``.

    Raises:
        ConfigError: if Airflow's provider for SSH is missing, or Airflow has no such connection.
        PermissionDeniedError: if the machine refuses the user, or is not the one that is known.
        UnreachableError: if it cannot be reached, or the connection breaks in this block.
    """
    settings = compute.ssh
    assert settings is not None
    try:
        from airflow.providers.ssh.hooks.ssh import SSHHook
        from paramiko import AuthenticationException, BadHostKeyException, SSHException
    except ImportError as error:
        raise ConfigError(
            f"compute target '{compute.name}' is reached by SSH, and '{error.name}' is missing: "
            "pip install 'airflow-mlpipe[ssh]'"
        ) from None
    where = f"compute target '{compute.name}' ({settings.conn_id or f'{settings.username}@{settings.address}'})"
    own: dict[str, Any] = (
        {"ssh_conn_id": settings.conn_id}
        if settings.conn_id
        # Unlike the hook's own default: a machine that nobody knows gets no code and no data.
        else {
            "remote_host": settings.address,
            "username": settings.username,
            "port": settings.port,
            "key_file": settings.private_key_file,
            "no_host_key_check": False,
        }
    )
    try:
        hook = SSHHook(**own, conn_retry_attempts=1)
        with hook.get_conn() as client, client.open_sftp() as sftp:
            yield SshSession(client, sftp)
    except (AuthenticationException, BadHostKeyException) as error:
        raise PermissionDeniedError(f"{where} refuses the login: {error}") from None
    except SSHException as error:
        if "known_hosts" in str(error):
            raise PermissionDeniedError(
                f"{where} is not known to this worker: {error}; add it: ssh-keyscan -p {settings.port} "
                f"{settings.address} >> ~/.ssh/known_hosts"
            ) from None
        if "authentication" in str(error).lower():
            raise PermissionDeniedError(f"{where} refuses the login: {error}") from None
        raise UnreachableError(f"{where} cannot be reached: {error}") from error
    except (OSError, EOFError) as error:
        raise UnreachableError(f"{where} cannot be reached, or a file there cannot be used: {error}") from error
