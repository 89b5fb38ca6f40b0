"""v1's names of errors, for scripts that catch them."""

from __future__ import annotations

from airflow_mlpipe.errors import ConfigError, ExecutionError, MlpipeError, NotFoundError, ServiceError, UsageError

AzureMLException = MlpipeError
"""Every error of this package."""

UserErrorException = UsageError
"""What the user can put right: a name that does not exist, an argument that is not allowed."""

WorkspaceException = ConfigError
"""There is no such workspace, or nothing of that name in it."""

ServiceException = ServiceError
"""Something that was asked - the catalog, a server - answered no; e.g. there is no run of that id."""

WebserviceException = NotFoundError
"""What v1 raised for a model that is not registered, among others."""

ModelNotFoundException = NotFoundError
"""There is no model of that name, or not that version."""

RunEnvironmentException = ConfigError
"""``Run.get_context(allow_offline=False)`` outside of a run."""

ExperimentExecutionException = UsageError
"""A run could not be submitted."""

ActivityFailedException = ExecutionError
"""A run that was waited for failed."""

TrainingException = ExecutionError
"""A run failed, or one of its steps."""
