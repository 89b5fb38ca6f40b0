from __future__ import annotations

import pytest
from pydantic import ValidationError

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatasetView, DatastorePath
from airflow_mlpipe.model.expression import evaluate, names_in, text_of
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.operation import (
    DropColumns,
    Filter,
    KeepColumns,
    Sample,
    Skip,
    Take,
    Timestamps,
    Window,
    columns_needed,
    declared_columns,
    rows_needed,
)

SOURCES = (DatastorePath(datastore="d", path="x"),)
AGE = ["column", "age"]
OLD = ["gt", AGE, ["value", 30]]


def keep(*names):
    return KeepColumns(kind="keep", columns=names)


def drop(*names):
    return DropColumns(kind="drop", columns=names)


def old():
    return Filter(kind="filter", expression=OLD)


class TestSpecs:
    def test_documents_of_earlier_releases_are_read(self):
        document = {"kind": "tabular", "sources": [{"datastore": "d", "path": "x"}], "options": {"separator": ";"}}
        spec = DatasetSpec.model_validate(document)
        assert spec.operations == ()
        assert spec.model_dump(mode="json", exclude_defaults=True) == document

    def test_all_operations_survive_json(self):
        every = (
            Take(kind="take", count=1),
            Skip(kind="skip", count=0),
            Sample(kind="sample", probability=0.5, seed=2, rest=True),
            old(),
            keep("age", "b"),
            drop("b"),
            Timestamps(kind="timestamps", fine="age"),
            Window(kind="window", column="age", start="2020-01-01T00:00:00+00:00"),
        )
        spec = DatasetSpec(kind="tabular", sources=SOURCES, operations=every)
        assert DatasetSpec.model_validate_json(spec.model_dump_json(exclude_defaults=True)) == spec

    @pytest.mark.parametrize(
        "document",
        [
            {"kind": "take", "count": -1},
            {"kind": "take"},
            {"kind": "sample", "probability": 1.5, "seed": 1},
            {"kind": "filter", "expression": ["gt", AGE]},
            {"kind": "filter", "expression": ["eval", "code"]},
            {"kind": "filter", "expression": ["metadata", "Owner"]},
            {"kind": "filter", "expression": ["moment", "2020-01-01"]},
            {"kind": "explode"},
        ],
    )
    def test_what_is_none_is_refused(self, document):
        with pytest.raises(ValidationError):
            DatasetSpec.model_validate({"kind": "tabular", "sources": [{"datastore": "d"}], "operations": [document]})

    @pytest.mark.parametrize("operation", [keep("a"), Timestamps(kind="timestamps", fine="a")])
    def test_files_have_no_columns(self, operation):
        for make in (DatasetSpec, DatasetView):
            options = {"sources": SOURCES} if make is DatasetSpec else {}
            with pytest.raises(ValidationError, match="a dataset of files has no operation"):
                make(kind="file", operations=(operation,), **options)

    def test_a_view_of_a_place(self):
        view = DatasetView(kind="tabular", options={"format": "parquet"}, glob="**/*.parquet")
        place = DatastorePath(datastore="d", path="azureml/1/out")
        assert view.of(place).sources == (DatastorePath(datastore="d", path="azureml/1/out/**/*.parquet"),)
        assert view.of(place, is_file=True).sources == (place,)


class TestColumns:
    def test_what_is_left_is_known_after_keep(self):
        assert declared_columns([old()]) is None
        assert declared_columns([keep("a", "b"), drop("a")]) == ("b",)

    @pytest.mark.parametrize(
        ("operations", "what"),
        [
            ([keep("price"), drop("prize")], "column 'prize' is not there.*there are: price; did you mean 'price'"),
            ([drop("age"), old()], "column 'age' is not there"),
            ([keep("a"), Window(kind="window", column="b")], "column 'b' is not there"),
        ],
    )
    def test_a_column_that_is_gone(self, operations, what):
        with pytest.raises(ParameterError, match=what):
            declared_columns(operations)

    def test_only_what_is_needed_is_read(self):
        assert columns_needed([]) is None
        assert columns_needed([old()]) is None
        assert columns_needed([old(), keep("a"), keep("b")]) == ("age", "a")
        assert columns_needed([drop("x"), keep("a")]) == ("a",)

    def test_rows(self):
        take, skip = Take(kind="take", count=5), Skip(kind="skip", count=2)
        assert rows_needed([take]) == 5
        assert rows_needed([skip, keep("a"), take]) == 7
        assert rows_needed([take, skip]) == 5
        assert rows_needed([old(), take]) is None
        assert rows_needed([skip]) is None


class TestExpressions:
    def test_names_and_text(self):
        expression = ["and", OLD, ["not", ["in", ["column", "b"], ["column", "x"]]]]
        assert list(names_in(expression)) == ["age", "b"]
        assert text_of(expression) == "((dataset['age'] > 30) & ~(dataset['b'].isin(['column', 'x'])))"

    @pytest.mark.parametrize(
        ("expression", "age", "answer"),
        [
            (OLD, 31, True),
            (OLD, 30, False),
            (OLD, None, None),
            (["is_null", AGE], None, True),
            (["not", OLD], None, None),
            (["or", OLD, ["value", True]], None, True),
            (["and", OLD, ["value", False]], None, False),
            (["and", OLD, ["value", True]], None, None),
            (["in", AGE, [1, 2]], 2, True),
            (["starts_with", AGE, "a"], "ab", True),
            (["ends_with", AGE, "a"], "ab", False),
            (["contains", AGE, "b"], "abc", True),
        ],
    )
    def test_missing_is_neither_true_nor_false(self, expression, age, answer):
        assert evaluate(expression, lambda kind, name: age) is answer

    def test_values_of_two_types(self):
        with pytest.raises(ParameterError, match=r"filter \(dataset\['age'\] > 30\): 'x' is a str, 30 a int"):
            evaluate(OLD, lambda kind, name: "x")


def test_nearest_names():
    assert nearest("prize", ["price", "size", "name"]) == "; did you mean 'price' or 'size'?"
    assert nearest("NAME", ["price", "name"]) == "; did you mean 'name'?"
    assert nearest("x", ["price"]) == ""
