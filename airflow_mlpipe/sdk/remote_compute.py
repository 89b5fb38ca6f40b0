"""Compute targets that are another machine, reached by SSH."""

from __future__ import annotations

import re
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.service import SshSettings
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_configuration import ComputeTargetAttachConfiguration, check_nodes, check_text

_FOLDER = re.compile(r"(~|/)[^\0\n]*")


class RemoteCompute(ComputeTarget):
    """A machine that steps run on by SSH: their files go there over SFTP, their outputs come back.

    The machine needs an SSH server, ``sh`` and what the steps run; nothing of ours. The worker needs the extra ``ssh``.
    """

    @staticmethod
    def attach_configuration(
        resource_id: str | None = None,
        username: str | None = None,
        address: str | None = None,
        ssh_port: int = 22,
        password: str | None = None,
        private_key_file: str = "",
        private_key_passphrase: str = "",
        *,
        conn_id: str | None = None,
        folder: str = SshSettings().folder,
        python: str = SshSettings().python,
        max_nodes: int | None = None,
    ) -> ComputeTargetAttachConfiguration:
        """Describe a machine, by its address or by a connection of Airflow.

        Args:
            resource_id: accepted as in v1, not used.
            username: user to log in as.
            address: name or IP address of the machine. The worker's user has to know it (``~/.ssh/known_hosts``).
            ssh_port: of its SSH server.
            password: refused: a secret belongs into a connection.
            private_key_file: file of the worker with the user's key; by default the keys of the worker's user.
            private_key_passphrase: refused.
            conn_id: Airflow connection of type ``ssh`` instead of all these; it also says whether the machine's key is
                checked (``no_host_key_check``, ``host_key``).
            folder: folder on the machine where steps get their files; ``~`` is the user's home.
            python: what runs scripts there.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        for name, secret in (("password", password), ("private_key_passphrase", private_key_passphrase)):
            if secret:
                raise ParameterError(
                    f"RemoteCompute: {name} is a secret, which does not belong into the catalog; put it into an "
                    "Airflow connection of type ssh and give conn_id="
                )
        if (conn_id is None) == (address is None):
            raise ParameterError("RemoteCompute: give either address= and username=, or conn_id=")
        if address is not None and not username:
            raise ParameterError(f"RemoteCompute: username is missing for address {address!r}")
        if not isinstance(ssh_port, int) or isinstance(ssh_port, bool) or not 0 < ssh_port < 65536:
            raise ParameterError(f"RemoteCompute: ssh_port={ssh_port!r} is not allowed; give a port, such as 22")
        if not isinstance(folder, str) or not _FOLDER.fullmatch(folder):
            raise ParameterError(f"RemoteCompute: folder={folder!r} is not allowed; give an absolute path, or ~/PATH")
        if max_nodes is not None:
            check_nodes("max_nodes", max_nodes, 1)
        settings = SshSettings(
            conn_id=check_text("conn_id", conn_id),
            address=check_text("address", address),
            port=ssh_port,
            username=check_text("username", username),
            private_key_file=private_key_file or None,
            folder=folder,
            python=check_text("python", python) or "python3",
        )
        return ComputeTargetAttachConfiguration(
            ComputeSpec(name="", type="VirtualMachine", kind="ssh", max_nodes=max_nodes, ssh=settings)
        )

    @property
    def address(self) -> str | None:
        """Name or IP address of the machine, or None if a connection of Airflow has it."""
        return (self._spec.ssh or SshSettings()).address

    def _properties(self) -> dict[str, Any]:
        return (self._spec.ssh or SshSettings()).model_dump()
