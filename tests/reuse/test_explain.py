"""Differences in words."""

from __future__ import annotations

import pytest

from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.result import TreeEntry, TreeManifest
from airflow_mlpipe.reuse.explain import differences, duration_text


def no_trees(digest):
    return None


def tree(**files: str) -> TreeManifest:
    return TreeManifest(
        entries=tuple(TreeEntry(path=p, digest=digest_bytes(c.encode())) for p, c in sorted(files.items()))
    )


def told(new: TreeManifest, old: TreeManifest, component: str) -> list[str]:
    kept = {new.digest: new, old.digest: old}
    if component == "code":
        return differences({"code": new.digest}, {"code": old.digest}, kept.get)
    return differences({"inputs": {"data": new.digest}}, {"inputs": {"data": old.digest}}, kept.get)


def test_code_names_the_file():
    assert told(tree(train="1", util="2"), tree(train="0", util="2"), "code") == ["code: train changed"]


def test_code_names_added_and_removed_files_and_counts_the_rest():
    new, old = tree(a="1", b="1", c="1", d="1", e="1"), tree(a="0", x="1")
    assert told(new, old, "code") == ["code: a changed, b added, c added and 3 more"]


def test_data_counts_the_files():
    old = {f"f{i:04}": "x" for i in range(10_000)}
    new = {**old, "f0001": "y", "f0002": "y", "f0003": "y"}
    expected = "input data: 3 of 10,000 files differ: f0001 changed, f0002 changed, f0003 changed"
    assert told(tree(**new), tree(**old), "inputs") == [expected]


@pytest.mark.parametrize(
    ("component", "new", "old", "text"),
    [
        ("code", "b3:1", "b3:0", "code: the source directory changed"),
        ("parameters", {"lr": 0.2}, {"lr": 0.1}, "parameter lr: 0.1 -> 0.2"),
        ("parameters", {"n": 1.0}, {"n": 1}, "parameter n: 1 -> 1.0"),
        ("parameters", {"n": "1"}, {"n": 1}, "parameter n: 1 -> '1'"),
        ("parameters", {"AML_PARAMETER_x": "a"}, {}, "parameter x: nothing -> 'a'"),
        ("command", ["a.py", ["literal", "--n"]], ["a.py", ["literal", "--m"]], "argument 1: '--m' -> '--n'"),
        ("command", ["a.py"], ["a.py", ["input", "mid"]], "argument 1: input mid -> nothing"),
        ("command", ["b.py"], ["a.py"], "script: a.py -> b.py"),
        ("inputs", {"d": "b3:1"}, {"d": "b3:0"}, "input d: its content changed"),
        ("inputs", {"d": "b3:1"}, {}, "input d: added"),
        ("inputs", {}, {"d": "b3:1"}, "input d: removed"),
        (
            "ports",
            {"d": ["download", False, None]},
            {"d": ["mount", False, None]},
            "input d: delivered as mount -> download",
        ),
        ("environment", {"numpy": "2.4.6"}, {"numpy": "2.4.5"}, "environment: numpy 2.4.5 -> 2.4.6"),
        ("environment", {"torch": "3"}, {}, "environment: torch 3 is new"),
        ("environment", {}, {"torch": "3"}, "environment: torch is gone"),
        ("variables", {"KEY": "hunter2"}, {"KEY": "hunter1"}, "environment variable KEY: changed"),
        ("outputs", {"m": ["data", None]}, {}, "output m: added"),
        ("distribution", {"kind": "mpi", "nodes": 4}, {"kind": "mpi", "nodes": 2}, "ranks: nodes 2 -> 4"),
        ("distribution", {"kind": "mpi", "nodes": 2}, None, "ranks: one process -> mpi"),
        ("version", "2", None, "version: nothing -> '2'"),
    ],
)
def test_each_component_in_words(component, new, old, text):
    assert differences({component: new}, {component: old}, no_trees) == [text]


def test_the_most_telling_difference_comes_first():
    lines = differences(
        {"environment": {"a": "2"}, "code": "b3:1"}, {"environment": {"a": "1"}, "code": "b3:0"}, no_trees
    )
    assert [line.split(":")[0] for line in lines] == ["code", "environment"]


@pytest.mark.parametrize(
    ("value_s", "text"),
    [
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (41.2, "41 s"),
        (119.6, "2 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_as_people_say_them(value_s, text):
    assert duration_text(value_s) == text


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("dataset a v1", "dataset a v12", ["dataset a: v1 -> v12", "input d: its content changed"]),
        ("dataset a v1 v2", "dataset a v1 v3", ["dataset a v1: v2 -> v3", "input d: its content changed"]),
        ("dataset a v1", "dataset b v2", ["input d: dataset a v1 -> dataset b v2", "input d: its content changed"]),
        ("s:/x", "s:/y", ["input d: s:/x -> s:/y", "input d: its content changed"]),
        ("s:/x", "s:/x", ["input d: its content changed"]),
        (None, "s:/x", ["input d: its content changed"]),
    ],
)
def test_another_source_is_told_before_its_files(before, after, lines):
    new, old = {"inputs": {"d": "b3:1"}, "labels": {"d": after}}, {"inputs": {"d": "b3:0"}}
    if before is not None:
        old["labels"] = {"d": before}
    assert differences(new, old, no_trees) == lines


def test_another_name_of_the_same_content_is_no_difference():
    new = {"inputs": {"d": "b3:1"}, "labels": {"d": "dataset a v2"}}
    assert differences(new, {"inputs": {"d": "b3:1"}, "labels": {"d": "dataset a v1"}}, no_trees) == []


def test_a_file_that_was_not_there_yet():
    assert told(tree(**{"": "1"}), tree(), "inputs") == ["input data: the file added"]
