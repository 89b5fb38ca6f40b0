"""What the slots in an operator's arguments come to: paths of this machine, or addresses in datastores."""

from __future__ import annotations

from typing import Any

from airflow_mlpipe.errors import ConfigError, MissingDataError, OutputMissingError, PipelineError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.operator_call import Piece
from airflow_mlpipe.storage.datastore import LocalStore, Store, check_files
from airflow_mlpipe.storage.outputs import attempt_path, materialise


class OperatorPlaces:
    """Gives each slot its value, and fetches what was written to addresses."""

    def __init__(self, job: StepJob, site: Site, compute: ComputeSpec | None) -> None:
        """Serve one try of a step of the workspace `site`, on the target `compute`."""
        self._job = job
        self._site = site
        self._compute = compute

    def value(self, piece: Piece) -> Any:
        """Return what a piece of a slot comes to.

        Raises:
            PipelineError: for the address of data that has none.
            ConfigError: for a setting that the compute target does not have.
        """
        context = self._job.context
        if piece.kind == "input":
            return context.inputs[piece.value].value
        if piece.kind == "output":
            return context.outputs[piece.value].path
        if piece.kind == "parameter":
            return context.parameters[piece.value]
        if piece.kind == "input_url":
            return self._input_url(piece.value)
        if piece.kind == "output_url":
            store, relative = self._output(piece.value)
            return service_url(store, relative)
        if piece.kind == "source":
            return str(self._job.cwd / piece.value)
        if piece.kind == "compute":
            return self._setting(piece.value)
        if piece.kind == "try":
            return f"{context.step_run_id}-{self._job.work.name}"
        return piece.value

    def fetch(self) -> None:
        """Bring the outputs that were written to addresses to where they are committed from.

        Raises:
            OutputMissingError: if nothing was written there.
        """
        call = self._job.step.operator
        for name in sorted(call.remote_outputs if call else ()):
            store, relative = self._output(name)
            if isinstance(store, LocalStore):
                continue
            target = self._job.outputs[name]
            fetched = self._job.work / "fetched" / name
            fetched.mkdir(parents=True)
            try:
                copy = materialise(DatastorePath(datastore=store.name, path=relative), store, fetched)
            except MissingDataError:
                raise OutputMissingError(
                    f"step '{self._job.step.name}' ended well but did not write its output '{name}': there is nothing "
                    f"at the address it was given, {service_url(store, relative)}"
                ) from None
            # The folder of an output that is a dataset is there already.
            if target.is_dir():
                target.rmdir()
            copy.rename(target)

    def _output(self, name: str) -> tuple[Store, str]:
        port = next(port for port in self._job.step.outputs if port.name == name)
        relative = attempt_path(port.kind, self._job.context.step_run_id, name)
        return check_files(self._site.store(port.datastore)), relative

    def _input_url(self, name: str) -> str:
        port = next(port for port in self._job.step.inputs if port.name == name)
        record = self._job.inputs[name].record
        source = port.bound
        if record is not None:
            source = DatastorePath(datastore=record.datastore, path=record.path)
        if isinstance(source, DatasetSpec):
            if len(source.sources) != 1 or source.operations:
                raise PipelineError(
                    f"step '{self._job.step.name}': input '{name}' is not one place in a datastore, so that it has no "
                    "address; read it by its path, without Url()"
                )
            source = source.sources[0]
        assert isinstance(source, DatastorePath)
        return service_url(check_files(self._site.store(source.datastore)), source.path)

    def _setting(self, name: str) -> Any:
        step = self._job.step.name
        if self._compute is None or self._compute.service is None:
            raise ConfigError(f"step '{step}': its operator needs the compute target's '{name}'; give compute_target=")
        known = {"conn_id": self._compute.service.conn_id, **self._compute.service.settings}
        if name not in known:
            raise ConfigError(f"step '{step}': compute target '{self._compute.name}' says nothing of '{name}'")
        return known[name]


def service_url(store: Store, relative: str) -> str:
    """Return an address that other machines understand.

    ``az://container`` of an account that is known becomes ``abfss://container@account.dfs.core.windows.net``, the
    form of Azure's services and of Spark; other schemes stay as they are.
    """
    url = store.url_of(relative)
    account = "" if isinstance(store, LocalStore) else str(store.definition["options"].get("account_name") or "")
    scheme, _, rest = url.partition("://")
    if scheme != "az" or not account:
        return url
    container, _, path = rest.partition("/")
    return f"abfss://{container}@{account}.dfs.core.windows.net/{path}"
