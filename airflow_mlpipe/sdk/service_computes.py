"""Services that hand work to machines of their own, as compute targets: what they are asked through is a connection."""

from __future__ import annotations

from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.service import ServiceSettings
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.compute_configuration import ComputeTargetAttachConfiguration, check_nodes, check_text


class _ServiceCompute(ComputeTarget):
    """A service that is reached through a connection of Airflow."""

    @property
    def conn_id(self) -> str:
        """The Airflow connection it is reached through."""
        return self._settings.conn_id

    @property
    def _settings(self) -> ServiceSettings:
        assert self._spec.service is not None
        return self._spec.service

    def _properties(self) -> dict[str, Any]:
        return {"connId": self.conn_id, **self._settings.settings}


class BatchCompute(_ServiceCompute):
    """An account of Azure Batch, for :class:`AzureBatchStep`."""

    @staticmethod
    def attach_configuration(
        resource_group: str | None = None,
        account_name: str | None = None,
        resource_id: str | None = None,
        *,
        conn_id: str = "azure_batch_default",
        max_nodes: int | None = None,
    ) -> ComputeTargetAttachConfiguration:
        """Describe an account.

        Args:
            resource_group: recorded as in v1, not used; the connection has the address.
            account_name: recorded as in v1, not used.
            resource_id: recorded as in v1, not used.
            conn_id: Airflow connection of type ``azure_batch``: name and key of the account, and its address as
                ``account_url`` among the extras; without a key the machine's own login at Azure.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        told = {"resource_group": resource_group, "account_name": account_name, "resource_id": resource_id}
        return _configuration("Batch", conn_id, told, max_nodes)


class DatabricksCompute(_ServiceCompute):
    """A Databricks workspace, for :class:`DatabricksStep`."""

    @staticmethod
    def attach_configuration(
        resource_group: str | None = None,
        workspace_name: str | None = None,
        access_token: str | None = None,
        resource_id: str | None = None,
        *,
        conn_id: str = "databricks_default",
        max_nodes: int | None = None,
    ) -> ComputeTargetAttachConfiguration:
        """Describe a workspace.

        Args:
            resource_group: recorded as in v1, not used; the connection has the address.
            workspace_name: recorded as in v1, not used.
            access_token: refused: a secret belongs into the connection.
            resource_id: recorded as in v1, not used.
            conn_id: Airflow connection of type ``databricks``: address and token, or a service principal.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        _no_secret("DatabricksCompute", "access_token", access_token)
        told = {"resource_group": resource_group, "workspace_name": workspace_name, "resource_id": resource_id}
        return _configuration("Databricks", conn_id, told, max_nodes)


class SynapseCompute(_ServiceCompute):
    """A Spark pool of Azure Synapse, for :class:`SynapseSparkStep`."""

    @staticmethod
    def attach_configuration(
        linked_service: Any = None,
        type: str = "SynapseSpark",
        pool_name: str | None = None,
        *,
        conn_id: str = "azure_synapse_default",
        max_nodes: int | None = None,
    ) -> ComputeTargetAttachConfiguration:
        """Describe a Spark pool.

        Args:
            linked_service: accepted as in v1, not used; the connection has the address.
            type: ``SynapseSpark``.
            pool_name: name of the Spark pool.
            conn_id: Airflow connection of type ``azure_synapse``: the workspace's address and a service principal.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        if type != "SynapseSpark":
            raise ParameterError(f"SynapseCompute: type={type!r} is not allowed; give 'SynapseSpark'")
        if not pool_name:
            raise ParameterError("SynapseCompute: pool_name is missing; give the name of the Spark pool")
        return _configuration("SynapseSpark", conn_id, {"pool_name": pool_name}, max_nodes)


class HDInsightCompute(_ServiceCompute):
    """A Spark cluster of HDInsight, for :class:`HDInsightStep`; its Livy server is asked."""

    @staticmethod
    def attach_configuration(
        username: str | None = None,
        address: str | None = None,
        ssh_port: int = 22,
        password: str | None = None,
        private_key_file: str = "",
        private_key_passphrase: str = "",
        resource_id: str | None = None,
        *,
        conn_id: str = "livy_default",
        max_nodes: int | None = None,
    ) -> ComputeTargetAttachConfiguration:
        """Describe a cluster.

        Args:
            username: recorded as in v1, not used; the connection has the login.
            address: recorded as in v1, not used.
            ssh_port: accepted as in v1, not used: the cluster is asked through Livy.
            password: refused: a secret belongs into the connection.
            private_key_file: accepted as in v1, not used.
            private_key_passphrase: refused.
            resource_id: recorded as in v1, not used.
            conn_id: Airflow connection of type ``livy``: ``https://CLUSTER.azurehdinsight.net/livy`` and the login.
            max_nodes: how many steps run on it at once; None for no limit.

        Raises:
            ParameterError: if a value is not allowed.
        """
        _no_secret("HDInsightCompute", "password", password)
        _no_secret("HDInsightCompute", "private_key_passphrase", private_key_passphrase)
        told = {"username": username, "address": address, "resource_id": resource_id}
        return _configuration("HDInsight", conn_id, told, max_nodes)


def _configuration(
    kind: str, conn_id: str, told: dict[str, str | None], max_nodes: int | None
) -> ComputeTargetAttachConfiguration:
    if max_nodes is not None:
        check_nodes("max_nodes", max_nodes, 1)
    checked = check_text("conn_id", conn_id)
    if checked is None:
        raise ParameterError(f"{kind}: conn_id is missing; give the id of an Airflow connection")
    settings = {name: str(value) for name, value in told.items() if value}
    service = ServiceSettings(conn_id=checked, settings=settings)
    return ComputeTargetAttachConfiguration(
        ComputeSpec(name="", type=kind, kind="service", max_nodes=max_nodes, service=service)
    )


def _no_secret(kind: str, name: str, value: object) -> None:
    if value:
        raise ParameterError(
            f"{kind}: {name} is a secret, which does not belong into the catalog; put it into an Airflow connection "
            "and give conn_id="
        )
