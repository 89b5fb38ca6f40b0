from __future__ import annotations

import pytest

from airflow_mlpipe import Dataset, DataType
from airflow_mlpipe.errors import MissingDataError, ParameterError

pandas = pytest.importorskip("pandas")


@pytest.fixture
def table(workspace):
    store = workspace.get_default_datastore()

    def make(content: str | bytes | dict[str, str], **options):
        files = content if isinstance(content, dict) else {"t.csv": content}
        for name, text in files.items():
            store._store.write_bytes(f"in/{name}", text.encode() if isinstance(text, str) else text)
        path = "in/**/*.csv" if len(files) > 1 else f"in/{next(iter(files))}"
        return Dataset.Tabular.from_delimited_files((store, path), **options)

    return make


def columns(frame):
    return {name: list(frame[name]) for name in frame.columns}


def test_types_are_inferred(table):
    frame = table("a,b,c\n1,x,1.5\n2,y,2.5\n").to_pandas_dataframe()
    assert columns(frame) == {"a": [1, 2], "b": ["x", "y"], "c": [1.5, 2.5]}


def test_all_files_in_order_of_their_paths(table):
    dataset = table({"b.csv": "n\n2\n", "a.csv": "n\n1\n", "sub/c.csv": "n\n3\n"})
    assert list(dataset.to_pandas_dataframe()["n"]) == [1, 2, 3]


def test_include_path_comes_first(table):
    dataset = table({"b.csv": "n\n2\n", "sub/c.csv": "n\n3\n"}, include_path=True)
    assert columns(dataset.to_pandas_dataframe()) == {"Path": ["/b.csv", "/sub/c.csv"], "n": [2, 3]}


@pytest.mark.parametrize("separator", [";", "\t", "||", "."])
def test_separator(table, separator):
    frame = table(f"a{separator}b\n1{separator}2\n", separator=separator).to_pandas_dataframe()
    assert columns(frame) == {"a": [1], "b": [2]}


def test_without_header(table):
    assert columns(table("1,x\n2,y\n", header=False).to_pandas_dataframe()) == {
        "Column1": [1, 2],
        "Column2": ["x", "y"],
    }


@pytest.mark.parametrize(("encoding", "codec"), [("latin1", "latin-1"), ("utf16", "utf-16"), ("windows1252", "cp1252")])
def test_encoding(table, encoding, codec):
    frame = table("a\nmüde\n".encode(codec), encoding=encoding).to_pandas_dataframe()
    assert list(frame["a"]) == ["müde"]


def test_without_inference_everything_is_text(table):
    assert list(table("a\n01\n", infer_column_types=False).to_pandas_dataframe()["a"]) == ["01"]


def test_empty_fields(table):
    text = "a,b\n,1\nx,2\n"
    assert table(text).to_pandas_dataframe()["a"].isna().tolist() == [True, False]
    assert list(table(text, empty_as_string=True).to_pandas_dataframe()["a"]) == ["", "x"]


def test_line_breaks_inside_of_quotes(table):
    assert list(table('a\n"x\ny"\n', support_multi_line=True).to_pandas_dataframe()["a"]) == ["x\ny"]


def test_set_column_types(table):
    text = "s,i,f,b,d\n01,1,2,True,2020-01-31\n02,2,3,false,2020-02-01\n"
    types = {"s": "string", "i": DataType.to_long(), "f": "float", "b": DataType.to_bool(), "d": DataType.to_datetime()}
    frame = table(text, set_column_types=types).to_pandas_dataframe()
    assert list(frame["s"]) == ["01", "02"]
    assert frame["i"].dtype == "int64"
    assert frame["f"].dtype == "float64"
    assert list(frame["b"]) == [True, False]
    assert list(frame["d"].dt.month) == [1, 2]


def test_date_formats_in_order(table):
    types = {"d": DataType.to_datetime(["%d.%m.%Y", "%Y/%m/%d"])}
    frame = table("d\n31.01.2020\n2020/02/01\nnever\n", set_column_types=types).to_pandas_dataframe()
    assert list(frame["d"].dt.month)[:2] == [1, 2]
    assert frame["d"].isna().tolist() == [False, False, True]


def test_wrong_values_are_empty_or_an_error(table):
    dataset = table("i\n1\nx\n", set_column_types={"i": "long"})
    assert dataset.to_pandas_dataframe()["i"].isna().tolist() == [False, True]
    with pytest.raises(ParameterError, match="'in/t.csv', column 'i', row 2: 'x' is not a long"):
        dataset.to_pandas_dataframe(on_error="fail")


def test_partition_columns(table):
    dataset = table(
        {"north/2020/01/31/d.csv": "n\n1\n", "south/2020/02/01/d.csv": "n\n2\n"},
        partition_format="/{region}/{day:yyyy/MM/dd}/d.csv",
    )
    frame = dataset.to_pandas_dataframe()
    assert list(frame["region"]) == ["north", "south"]
    assert list(frame["day"].dt.month) == [1, 2]


def test_empty_file_has_no_rows(table):
    assert len(table("").to_pandas_dataframe()) == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"separator": ""}, "separator"),
        ({"encoding": "klingon"}, "encoding 'klingon' is not known"),
        ({"header": 3}, "header 3 is not allowed"),
        ({"set_column_types": {"a": "complex"}}, "column type 'complex' is not allowed"),
        ({"partition_format": "no fields"}, "partition_format 'no fields'"),
    ],
)
def test_refusals_when_it_is_defined(table, options, what):
    with pytest.raises(ParameterError, match=what):
        table("a\n1\n", **options)


def test_refusals_when_it_is_read(table, workspace):
    with pytest.raises(ParameterError, match="set_column_types: .* has no column 'z'; it has: a"):
        table("a\n1\n", set_column_types={"z": "long"}).to_pandas_dataframe()
    with pytest.raises(ParameterError, match="cannot be read with separator ',' and encoding 'utf-8'"):
        table(b"a\n\xff\n").to_pandas_dataframe()
    with pytest.raises(ParameterError, match="does not fit partition_format"):
        table("a\n1\n", partition_format="{x}/{y:yyyy}/t.csv").to_pandas_dataframe()
    store = workspace.get_default_datastore()
    with pytest.raises(MissingDataError, match="there is no 'gone.csv'"):
        Dataset.Tabular.from_delimited_files((store, "gone.csv")).to_pandas_dataframe()
