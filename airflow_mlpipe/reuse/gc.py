"""What of a workspace is garbage, and its removal: records die before bytes, and any doubt keeps them.

Kept is everything that somebody may need: what results in no doubt consist of, what unfinished runs have taken or are
writing, what registered datasets and pipelines read by path, the files of runs, and whatever is younger than the
grace period by the clock of its own file system or store. What the catalog does not know is another workspace's, or of
a catalog that was lost: it is counted and left alone. A remote datastore that cannot be listed is left out: what is
needed is known by the catalog alone, so nothing elsewhere depends on what lies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.collecting import AttemptState, Doomed, Horizon
from airflow_mlpipe.errors import ServiceError, StorageError
from airflow_mlpipe.storage import remote_garbage
from airflow_mlpipe.storage.datastore import LocalStore, Store
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.garbage import (
    Item,
    clock_ns,
    is_inside,
    list_contents,
    list_drafts,
    list_places,
    list_work,
    remove_file,
    remove_tree,
)
from airflow_mlpipe.storage.ledger import list_results, result_path
from airflow_mlpipe.storage.remote_garbage import RemotePlace

if TYPE_CHECKING:
    from airflow_mlpipe.storage.remote import RemoteStore

NO_RESULT = "outputs without a result"
DOUBTFUL = "outputs of doubtful results"
UNUSED = "outputs of unused results"
KINDS = {
    "manifest": "lists of files that nothing refers to",
    "snapshot": "snapshots that nothing refers to",
    "draft": "unfinished or damaged files",
    "work": "working folders of ended tries",
}
LEASES = "leases of ended steps"

COLLECTED = "its outputs were collected as garbage"
"""What a collected result is doubtful for, as shown to people."""


@dataclass(slots=True)
class Tally:
    """How many of a kind, and the bytes of their files."""

    count: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one more."""
        self.count += 1
        self.size_bytes += size_bytes


@dataclass(slots=True)
class Collected:
    """What is garbage, or was.

    Attributes:
        deleted: whether it was removed; otherwise it was only counted.
        kinds: by kind, in words, what was found or removed.
        datastores: by name, what of it was found or removed in each datastore.
        young: what would be garbage if it were older than the grace period.
        named: outputs that a registered dataset or a pipeline reads by their path, or by a pattern over all of them.
        unknown: outputs that this workspace's catalog does not know; never removed.
        unknown_elsewhere: how many of these lie in remote datastores; they are not measured.
        away: by name, why a remote datastore was left out: nothing of it was found or removed.
        refused: what could not be removed, one line each.
    """

    deleted: bool
    kinds: dict[str, Tally] = field(default_factory=dict)
    datastores: dict[str, Tally] = field(default_factory=dict)
    young: Tally = field(default_factory=Tally)
    named: Tally = field(default_factory=Tally)
    unknown: Tally = field(default_factory=Tally)
    unknown_elsewhere: int = 0
    away: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Bytes of everything that was found or removed."""
        return sum(tally.size_bytes for tally in self.kinds.values())

    def count(self, kind: str, datastore: str, size_bytes: int) -> None:
        """Count something that was found or removed; of no datastore if that is empty."""
        self.kinds.setdefault(kind, Tally()).add(size_bytes)
        if datastore:
            self.datastores.setdefault(datastore, Tally()).add(size_bytes)


def collect_garbage(
    catalog: Catalog,
    stores: Sequence[Store],
    default: Documents,
    workspace: Path,
    workspace_id: str,
    *,
    grace: timedelta,
    unused_for: timedelta | None = None,
    delete: bool = False,
    away: Mapping[str, str] | None = None,
    now: datetime,
) -> Collected:
    """Find what nobody needs and, with `delete`, remove it.

    Args:
        catalog: the workspace's catalog.
        stores: its datastores that are written.
        default: the one with snapshots, manifests and records; one that is not among `stores` keeps all of these but
            the records of what is collected.
        workspace: its own folder, ``.mlpipe``.
        workspace_id: its id.
        grace: what was written later than this ago stays, whatever it is.
        unused_for: results that no run has made or taken for so long are garbage too; None keeps them.
        delete: remove; otherwise only tell.
        away: by name, why a datastore could not be opened.
        now: aware UTC, to compare with the times at which runs were submitted.

    Raises:
        StorageError: if a folder of this machine cannot be listed, or outputs are there while the catalog knows of no
            run: nothing is removed then.
    """
    work = _Collection(catalog, default, Collected(deleted=delete, away=dict(away or {})), grace)
    # Everything is listed before anything is removed: what cannot be listed here stops it all.
    seen = catalog.keeper.horizon()
    home = next((store for store in stores if store.name == default.name and isinstance(store, LocalStore)), None)
    # Two names may stand for one folder.
    here = list({store.root: store for store in stores if isinstance(store, LocalStore)}.values())
    elsewhere = list({store.address: store for store in stores if not isinstance(store, LocalStore)}.values())
    places = [item for store in here for item in list_places(store)]
    remote = work.listed_elsewhere(elsewhere)
    contents = list_contents(home) if home is not None and _is_ours_alone(home, workspace, workspace_id) else []
    drafts = [item for store in here for item in list_drafts(store)]
    folders = list_work(workspace)
    attempts = catalog.keeper.attempts()
    if not attempts:
        _refuse_if_lost(len(places) + len(remote), default, workspace_id)
    needed = catalog.keeper.needed_digests()
    work.places([*places, *remote], attempts, seen, None if unused_for is None else now - unused_for)
    # After the places: what only a collected result referred to goes with the next collection.
    work.files([*(item for item in contents if item.name not in needed), *drafts])
    work.files([item for item in folders if item.name in attempts and attempts[item.name].ended])
    leases = catalog.keeper.ended_leases(drop=delete)
    if leases:
        work.done.kinds[LEASES] = Tally(leases)
    return work.done


def _refuse_if_lost(outputs: int, default: Documents, workspace_id: str) -> None:
    """Stop a catalog without runs from taking for garbage what it has lost."""
    known = [found.record for found in list_results(default) if found.record is not None]
    records = sum(record.workspace == workspace_id for record in known)
    if outputs or records:
        raise StorageError(
            f"the catalog knows of no run, but its datastores hold {outputs} outputs and {records} records of results; "
            "if it was lost, 'mlpipe catalog rebuild' makes it again; what that does not put back can go after the "
            "next run; nothing was removed"
        )


def _is_ours_alone(store: LocalStore, workspace: Path, workspace_id: str) -> bool:
    """Whether nobody else can refer to the manifests and snapshots of a store."""
    if not is_inside(store, workspace):
        return False
    return all(found.record is None or found.record.workspace == workspace_id for found in list_results(store))


class _Collection:
    def __init__(self, catalog: Catalog, default: Documents, done: Collected, grace: timedelta) -> None:
        self.done = done
        self._catalog = catalog
        self._default = default
        self._grace_ns = int(grace.total_seconds() * 1e9)
        self._clocks: dict[Path, int] = {}

    def listed_elsewhere(self, stores: Sequence[RemoteStore]) -> list[RemotePlace]:
        """Return the places in remote datastores; those that do not tell are left out, by name."""
        found, away = remote_garbage.list_places(stores)
        self.done.away.update(away)
        return found

    def places(
        self,
        found: Iterable[Item | RemotePlace],
        attempts: dict[str, AttemptState],
        seen: Horizon,
        unused_since: datetime | None,
    ) -> None:
        """Collect what attempts have written."""
        named = self._catalog.keeper.named_places()
        doomed = self._doomed(attempts, unused_since)
        chosen: dict[str, list[Item | RemotePlace]] = {}
        for item in self._told(found, attempts, doomed):
            if named.everything or item.name in named.step_run_ids:
                self.done.named.add(item.size_bytes)
            elif self._is_young(item):
                self.done.young.add(item.size_bytes)
            else:
                chosen.setdefault(item.name, []).append(item)
        wanted = {name: doomed[name] for name in chosen}
        taken = self._catalog.keeper.collect(wanted, seen) if self.done.deleted else set(wanted)
        remote: list[tuple[RemotePlace, str]] = []
        for name in sorted(taken):
            each = wanted[name]
            # A record that outlived its bytes would come back with the next rebuild.
            if not self.done.deleted or all(self._drop_record(result_id) for result_id in each.results):
                kind = UNUSED if each.sound else DOUBTFUL if each.results else NO_RESULT
                for item in chosen[name]:
                    if isinstance(item, RemotePlace):
                        remote.append((item, kind))
                    else:
                        self._remove(item, kind)
        self._remove_elsewhere(remote)

    def _told(
        self,
        found: Iterable[Item | RemotePlace],
        attempts: Mapping[str, AttemptState],
        doomed: Mapping[str, Doomed],
    ) -> list[Item | RemotePlace]:
        """Return the places that nobody may need, those elsewhere measured, and count what is not known."""
        here: list[Item | RemotePlace] = []
        elsewhere: list[RemotePlace] = []
        for item in found:
            if item.name not in attempts and isinstance(item, RemotePlace):
                self.done.unknown_elsewhere += 1
            elif item.name not in attempts:
                self.done.unknown.add(item.size_bytes)
            elif item.name in doomed and isinstance(item, RemotePlace):
                elsewhere.append(item)
            elif item.name in doomed:
                here.append(item)
        measured, away = remote_garbage.measure(elsewhere)
        self.done.away.update(away)
        return here + measured

    def _doomed(self, attempts: dict[str, AttemptState], unused_since: datetime | None) -> dict[str, Doomed]:
        """Return, by step run, the places whose bytes nobody may need, as far as the catalog can tell."""
        used_at: dict[str, datetime] = {}
        held: set[str] = set()
        for state in attempts.values():
            if state.result_id is not None:
                used_at[state.result_id] = max(state.used_at, used_at.get(state.result_id, state.used_at))
                if state.holds:
                    held.add(state.result_id)
        results: dict[str, list[str]] = {}
        needed, sound = set(), set()
        for kept in self._catalog.keeper.kept_results():
            results.setdefault(kept.step_run_id, []).append(kept.id)
            # A result that its own run did not take, because another try was first, serves others from then on.
            own = attempts.get(kept.step_run_id)
            used = used_at.get(kept.id) or (own.used_at if own is not None else None)
            in_use = unused_since is None or used is None or used >= unused_since
            # One that cannot be read may be of a newer version of this package.
            if kept.id in held or kept.result is None or (kept.doubtful is None and in_use):
                needed.add(kept.step_run_id)
            elif kept.doubtful is None:
                sound.add(kept.step_run_id)
        return {
            name: Doomed(tuple(results.get(name, ())), name in sound, COLLECTED)
            for name, state in attempts.items()
            if state.ended and name not in needed
        }

    def files(self, found: Iterable[Item]) -> None:
        """Collect what is needed by nobody whatever the catalog will say, if it is old enough."""
        for item in found:
            if self._is_young(item):
                self.done.young.add(item.size_bytes)
            else:
                self._remove(item, KINDS[item.kind])

    def _remove_elsewhere(self, going: Sequence[tuple[RemotePlace, str]]) -> None:
        problems: Sequence[str | None] = [None] * len(going)
        if self.done.deleted:
            problems = remote_garbage.remove_places([place for place, _ in going])
        for (place, kind), problem in zip(going, problems, strict=True):
            if problem is None:
                self.done.count(kind, place.datastore, place.size_bytes)
            elif problem not in self.done.refused:
                self.done.refused.append(problem)

    def _remove(self, item: Item, kind: str) -> None:
        size_bytes = item.size_bytes
        if self.done.deleted:
            try:
                if item.kind in ("place", "work"):
                    remove_tree(item.path)
                elif not remove_file(item):
                    return
            except StorageError as error:
                self.done.refused.append(error.message)
                return
        self.done.count(kind, item.datastore, size_bytes)

    def _drop_record(self, result_id: str) -> bool:
        try:
            self._default.remove(result_path(result_id))
        except (StorageError, ServiceError) as error:
            self.done.refused.append(error.message)
            return False
        return True

    def _is_young(self, item: Item | RemotePlace) -> bool:
        if isinstance(item, RemotePlace):
            return item.is_younger(self._grace_ns)
        folder = item.path.parent
        if folder not in self._clocks:
            self._clocks[folder] = clock_ns(folder)
        return item.touched_ns > self._clocks[folder] - self._grace_ns
