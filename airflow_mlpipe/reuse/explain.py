"""Why a step could not reuse an earlier result: the difference between two sets of components, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from airflow_mlpipe.model.changes import changed_text
from airflow_mlpipe.model.digest import Digest, JsonValue, canonical_json
from airflow_mlpipe.model.result import StepResult, TreeManifest

Trees = Callable[[Digest], TreeManifest | None]
"""Looks up the manifest of a tree by its digest; None if it is not kept."""


def differences(new: Mapping[str, JsonValue], old: Mapping[str, JsonValue], trees: Trees) -> list[str]:
    """Return every difference between two sets of components, the most telling first.

    Args:
        new: components of the execution that is asked for.
        old: components of an earlier result.
        trees: finds manifests, so that changed files can be named.
    """
    lines: list[str] = []
    for name, describe in _DESCRIBERS.items():
        if not _same(new.get(name), old.get(name)):
            if name == "inputs":
                lines.extend(_sources(new, old))
            lines.extend(describe(new.get(name), old.get(name), trees))
    return lines


def nearest(new: Mapping[str, JsonValue], results: Sequence[StepResult]) -> StepResult | None:
    """Return of `results` (newest first) the one that differs from `new` in the fewest components."""
    return min(
        results,
        key=lambda result: sum(not _same(new.get(n), result.components.get(n)) for n in _DESCRIBERS),
        default=None,
    )


def duration_text(value_s: float) -> str:
    """Return a duration in seconds as people say it: ``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value_s < 9.95:
        return f"{value_s:.1f} s"
    whole = round(value_s)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def age_text(value_s: float) -> str:
    """Return an age in seconds as people say it: as :func:`duration_text`, and ``1 day``, ``3 days 4 h``."""
    hours = int(value_s // 3600)
    if hours < 24:
        return duration_text(value_s)
    days = f"{hours // 24} day{'' if hours < 48 else 's'}"
    return f"{days} {hours % 24} h" if hours % 24 else days


def changed_files(new: JsonValue, old: JsonValue, trees: Trees, *, count: bool = True) -> str:
    """Name the files that differ between two trees, or return '' if one of them is not kept.

    Args:
        new: digest of the tree that is there now.
        old: digest of the tree that was there before.
        trees: finds manifests.
        count: also say how many of how many files differ.
    """
    after = trees(new) if isinstance(new, str) else None
    before = trees(old) if isinstance(old, str) else None
    if after is None or before is None:
        return ""
    return changed_text(after, before, count=count) or "the same files, read with other options"


def _same(a: JsonValue, b: JsonValue) -> bool:
    # As the key sees it: 1, 1.0 and True are equal in Python and different here.
    return canonical_json(a) == canonical_json(b)


def _code(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    yield f"code: {changed_files(new, old, trees, count=False) or 'the source directory changed'}"


def _command(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    new, old = list(new or [None]), list(old or [None])
    if new[0] != old[0]:
        yield f"script: {old[0]} -> {new[0]}"
    for position in range(1, max(len(new), len(old))):
        a = _word(old[position]) if position < len(old) else "nothing"
        b = _word(new[position]) if position < len(new) else "nothing"
        if a != b:
            yield f"argument {position}: {a} -> {b}"
            return


def _word(argument: Sequence[str]) -> str:
    kind, value = argument
    return repr(value) if kind == "literal" else f"{kind} {value}"


def _operator(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    new, old = new or {}, old or {}
    if new.get("class") != old.get("class"):
        yield f"operator: {old.get('class')} -> {new.get('class')}"
        return
    changed = list(_changed_keys(new.get("arguments"), old.get("arguments")))
    for name, before, after in changed:
        yield f"operator argument {name}: {_shown(before)} -> {_shown(after)}"
    if not changed:
        yield "operator: inputs, outputs or parameters stand elsewhere in its arguments"


def _parameters(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    for name, before, after in _changed_keys(new, old):
        yield f"parameter {name.removeprefix('AML_PARAMETER_')}: {_shown(before)} -> {_shown(after)}"


def _sources(new: Mapping[str, JsonValue], old: Mapping[str, JsonValue]) -> Iterator[str]:
    """Tell of each input whose content changed whether it is another source than before, e.g. a newer version."""
    labels = new.get("labels") or {}, old.get("labels") or {}
    for name, before, after in _changed_keys(new.get("inputs"), old.get("inputs")):
        now, then = (each.get(name) for each in labels)
        if before is _ABSENT or after is _ABSENT or not now or not then or now == then:
            continue
        of, to = _VERSION.fullmatch(then), _VERSION.fullmatch(now)
        if of and to and of[1] == to[1]:
            yield f"{to[1]}: {of[2]} -> {to[2]}"
        else:
            yield f"input {name}: {then} -> {now}"


def _inputs(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    for name, before, after in _changed_keys(new, old):
        if before is _ABSENT:
            yield f"input {name}: added"
        elif after is _ABSENT:
            yield f"input {name}: removed"
        else:
            yield f"input {name}: {changed_files(after, before, trees) or 'its content changed'}"


def _ports(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    for name, before, after in _changed_keys(new, old):
        if before is not _ABSENT and after is not _ABSENT:
            yield f"input {name}: delivered as {_port(before)} -> {_port(after)}"


def _port(port: Sequence[JsonValue]) -> str:
    mode, as_dataset, path, *view = port
    words = [str(mode), *(["dataset"] if as_dataset else []), *([f"at {path}"] if path else [])]
    return " ".join([*words, *(f"read as {canonical_json(each).decode('utf-8', 'replace')}" for each in view)])


def _environment(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    for name, before, after in _changed_keys(new, old):
        if before is _ABSENT:
            yield f"environment: {name} {after} is new"
        elif after is _ABSENT:
            yield f"environment: {name} is gone"
        else:
            yield f"environment: {name} {before} -> {after}"


def _variables(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    # Names only: a value may be a secret.
    for name, before, after in _changed_keys(new, old):
        how = "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
        yield f"environment variable {name}: {how}"


def _outputs(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    for name, before, after in _changed_keys(new, old):
        how = "added" if before is _ABSENT else "removed" if after is _ABSENT else "declared differently"
        yield f"output {name}: {how}"


def _distribution(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    if new is None or old is None:
        before, after = (each["kind"] if each else "one process" for each in (old, new))
        yield f"ranks: {before} -> {after}"
        return
    for name, before, after in _changed_keys(new, old):
        yield f"ranks: {name} {_shown(before)} -> {_shown(after)}"


def _version(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    yield f"version: {_shown(old)} -> {_shown(new)}"


def _kind(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    yield "kind of step changed"


def _format(new: JsonValue, old: JsonValue, trees: Trees) -> Iterator[str]:
    yield "the definition of reuse changed with this release"


_DESCRIBERS: dict[str, Callable[[JsonValue, JsonValue, Trees], Iterator[str]]] = {
    "code": _code,
    "command": _command,
    "operator": _operator,
    "parameters": _parameters,
    "inputs": _inputs,
    "ports": _ports,
    "environment": _environment,
    "variables": _variables,
    "outputs": _outputs,
    "distribution": _distribution,
    "version": _version,
    "kind": _kind,
    "format": _format,
}

_ABSENT = object()
_VERSION = re.compile(r"(dataset .+) (v\d+)", re.DOTALL)


def _changed_keys(new: JsonValue, old: JsonValue) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    new, old = dict(new or {}), dict(old or {})
    for name in sorted(new.keys() | old.keys()):
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before is _ABSENT or after is _ABSENT or not _same(before, after):
            yield name, before, after


def _shown(value: JsonValue) -> str:
    return "nothing" if value is _ABSENT or value is None else repr(value) if isinstance(value, str) else str(value)
