"""From a try of a step to the order that its pod carries out, or to the reason why no pod can."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.pod.order import OrderPlace, PodInput, PodOrder, PodRun, PodStore
from airflow_mlpipe.execution.pod.places import decide
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.data import DatasetSpec, is_web
from airflow_mlpipe.storage.credentials import split_secrets
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.urls import is_folder

ROOT = Path("/mlpipe")
"""Where a pod has the files of its step."""

OWN = Path("/mlpipe-own")
"""Where a pod has what its step's container does not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the pods of a compute target can reach.

    Attributes:
        target: its name.
        identity: whether they have credentials of their own: of a secret, or of a service account.
        volume: whether they have the workspace's folder.
        root: where a pod has the files of its step.
        own: where it has what its step's container does not see.
    """

    target: str
    identity: bool = False
    volume: bool = False
    root: Path = ROOT
    own: Path = OWN


def make_order(order: Order, site: Site, reach: Reach) -> PodOrder:
    """Return what a pod is told to do.

    Raises:
        ConfigError: if it cannot reach a datastore that the step needs.
        MissingDataError: if an input has not been made.
        PipelineError: if a place that the step wants cannot be had.
        ServiceError: if the catalog or a datastore cannot be reached.
    """
    work = reach.root / "try"
    former = [row.name for row in site.catalog.former_defaults()]
    stores = [_reached(name, order, site, reach) for name in _needed(order, site)]
    # What was once the default datastore is looked into only for what the present one does not have.
    behind = [store for name in former if (store := _optional(name, order, site, reach)) is not None]
    run = order.run
    context, laid = decide(order, site.store, work)
    return PodOrder(
        step=order.step,
        run=PodRun(
            run_id=run.run_id,
            step_run_id=run.step_run_id,
            experiment=run.experiment,
            pipeline=run.pipeline,
            workspace=str(run.workspace.absolute()),
            about=run.about,
            parameters=dict(run.parameters),
        ),
        inputs={name: PodInput(digest=known.digest, record=known.record) for name, known in order.inputs.items()},
        number=order.number,
        work=str(work),
        own=str(reach.own),
        context=context,
        laid=laid,
        stores=_once([*stores, *behind]),
        defaults=(site.default.name, *(store.name for store in behind)),
        lent=tuple(site.lent),
    )


def hand_over(order: PodOrder, site: Site) -> OrderPlace:
    """Write an order where its pod finds it, and return where that is.

    Raises:
        StorageError: if it cannot be written.
        ServiceError: if the default datastore cannot be reached or refuses.
    """
    first = next(store for store in order.stores if store.name == order.defaults[0])
    place = OrderPlace(store=first, folder=f"runs/{order.run.step_run_id}/pod/{uuid.uuid4().hex}")
    site.default.write_bytes(place.order, order.model_dump_json().encode())
    return place


def _needed(order: Order, site: Site) -> list[str]:
    """Return the names of the datastores that the step's pod opens."""
    names = [site.default.name, *(port.datastore for port in order.step.outputs), *site.lent]
    for port in order.step.inputs:
        known = order.inputs[port.name]
        source = port.bound
        if known.record is not None:
            names.append(known.record.datastore)
        elif isinstance(source, DatasetSpec):
            names += [each.datastore for each in source.sources]
        else:
            names.append(source.datastore)  # type: ignore[union-attr]
    return [name for name in dict.fromkeys(names) if not is_web(name)]


def _reached(name: str, order: Order, site: Site, reach: Reach) -> PodStore:
    row = site.catalog.get_datastore(name)
    whose = f"step '{order.step.name}' runs in a pod of compute target '{reach.target}'"
    if is_folder(row.url):
        store = site.store(name)
        inside = isinstance(store, LocalStore) and store.root.is_relative_to(order.run.workspace.absolute())
        if not (reach.volume and inside):
            how = "lies outside of the workspace's folder" if reach.volume else "is a folder of this machine"
            raise ConfigError(
                f"{whose}, which cannot reach datastore '{name}': '{row.url}' {how}; use a datastore that is reached "
                "over the network, or one in the workspace's folder and the target's workspace_volume"
            )
    elif split_secrets(site.credentials(name))[1] and not reach.identity:
        raise ConfigError(
            f"{whose}, which has no credentials for datastore '{name}' ({row.url}): those of the worker or of an "
            "Airflow connection do not go there; set the target's credentials_secret to a secret of the namespace with "
            f"the datastore's variables (MLPIPE_DATASTORE_...), or its service_account"
        )
    return PodStore(name=name, url=row.url, options=dict(row.options))


def _optional(name: str, order: Order, site: Site, reach: Reach) -> PodStore | None:
    try:
        return _reached(name, order, site, reach)
    except ConfigError:
        return None


def _once(stores: Iterable[PodStore]) -> tuple[PodStore, ...]:
    found: Sequence[PodStore] = list({store.name: store for store in stores}.values())
    return tuple(sorted(found, key=lambda store: store.name))
