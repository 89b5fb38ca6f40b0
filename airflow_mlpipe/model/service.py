"""A service elsewhere that steps hand their work to, reached through a connection of Airflow."""

from __future__ import annotations

from airflow_mlpipe.model.base import Frozen


class ServiceSettings(Frozen):
    """How a service is reached, and what its operators are told.

    Attributes:
        conn_id: Airflow connection with its address and credentials.
        settings: more of what the operators of its steps need, by name.
    """

    conn_id: str
    settings: dict[str, str] = {}


class SshSettings(Frozen):
    """How steps run on another machine by SSH.

    Attributes:
        conn_id: Airflow connection of the machine; None if `address` and `username` say it.
        address: name or IP address of the machine.
        port: of its SSH server.
        username: user to log in as.
        private_key_file: file of the worker with the user's key; None for the keys of the worker's user and its agent.
        folder: folder on the machine where steps get their files; ``~`` is the user's home.
        python: what runs scripts there.
    """

    conn_id: str | None = None
    address: str | None = None
    port: int = 22
    username: str | None = None
    private_key_file: str | None = None
    folder: str = "~/.mlpipe-steps"
    python: str = "python3"
