from __future__ import annotations

import sys

import pytest

from airflow_mlpipe import Dataset, DataType
from airflow_mlpipe.errors import ConfigError, MissingDataError, ParameterError, StorageError
from airflow_mlpipe.sdk.tables import needs_pandas

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


def test_whole_columns_decide_about_types(table):
    lines = "\n".join(map(str, range(300_000)))
    dataset = table(f"n\n{lines}\nx\n")
    frame = dataset.to_pandas_dataframe()
    assert (len(frame), frame["n"].iloc[-1], frame["n"].iloc[0]) == (300_001, "x", "0")
    assert dataset.take(2).to_pandas_dataframe()["n"].tolist() == [0, 1]


def test_a_column_of_several_types_in_several_files_is_text(table):
    frame = table({"a.csv": "n,m\n01,1\n", "b.csv": "n,m\nx,2.5\n"}).to_pandas_dataframe()
    assert columns(frame) == {"n": ["01", "x"], "m": [1.0, 2.5]}


def test_dates_are_inferred_and_times_of_a_day_are_text(table):
    frame = table("d,t\n2020-01-31,12:30\n2020-02-01,13:00\n").to_pandas_dataframe()
    assert list(frame["d"].dt.month) == [1, 2]
    assert list(frame["t"]) == ["12:30", "13:00"]


def test_only_empty_fields_are_missing_in_text(table):
    frame = table("country,n\nNA,1\n,NA\nDE,3\n").to_pandas_dataframe()
    assert frame["country"].isna().tolist() == [False, True, False]
    assert frame["n"].isna().tolist() == [False, True, False]


def test_short_rows_are_filled_and_long_ones_refused(table):
    assert columns(table("a,b\n1\n2,3\n").to_pandas_dataframe())["a"] == [1, 2]
    with pytest.raises(ParameterError, match="t.csv' cannot be read with separator"):
        table("a,b\n1,2\n1,2,3\n").to_pandas_dataframe()


def test_names_that_are_missing_or_repeated(table):
    assert columns(table("a,,a\n1,2,3\n").to_pandas_dataframe()) == {"a": [1], "Column2": [2], "a_1": [3]}
    assert columns(table('\n\n"a\nb",c\n1,2\n').to_pandas_dataframe()) == {"a\nb": [1], "c": [2]}


def test_decimal_comma(table):
    dataset = table("x;y\n1.234,5;1\n", separator=";", set_column_types={"x": DataType.to_float(decimal_mark=",")})
    assert columns(dataset.to_pandas_dataframe()) == {"x": [1234.5], "y": [1]}
    with pytest.raises(ParameterError, match="decimal_mark=';'.*allowed are '.' and ','"):
        DataType.to_float(";")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("long", " 7 ", 7), ("long", "7.0", 7), ("long", "9223372036854775807", 2**63 - 1), ("float", "1e3", 1000.0),
        ("bool", "TRUE", True), ("bool", "0", False), ("string", "01", "01"),
    ],
)  # fmt: skip
def test_values_of_a_type(table, kind, text, value):
    for beside in ("", "junk"):
        frame = table(f"x,y\n{text},1\n{beside},2\n", set_column_types={"x": kind}).to_pandas_dataframe()
        assert frame["x"].iloc[0] == value


@pytest.mark.parametrize(("kind", "text"), [("long", "7.5"), ("float", "x"), ("bool", "yes"), ("datetime", "never")])
def test_values_of_another_type(table, kind, text):
    dataset = table(f"a,b\n1,\n2,{text}\n", set_column_types={"b": kind})
    assert dataset.to_pandas_dataframe()["b"].isna().all()
    with pytest.raises(ParameterError, match=f"'in/t.csv', column 'b', row 2: '{text}' is not a {kind}; give"):
        dataset.to_pandas_dataframe(on_error="fail")


@pytest.mark.parametrize("types", [{}, {"d": DataType.to_datetime()}, {"d": DataType.to_datetime("%Y-%m-%d")}])
def test_dates_out_of_range(table, types):
    dataset = table("d\n2020-01-01\n9999-12-31\n", set_column_types=types)
    assert dataset.to_pandas_dataframe()["d"].isna().tolist() == [False, True]
    with pytest.raises(ParameterError, match="column 'd', row 2: .* is out of pandas' range, 1677 to 2262"):
        dataset.to_pandas_dataframe(out_of_range_datetime="fail")


def test_words_for_errors(table):
    with pytest.raises(ParameterError, match="on_error='ignore'.*allowed are 'null' and 'fail'"):
        table("a\n1\n").to_pandas_dataframe(on_error="ignore")


@pytest.mark.parametrize(
    ("encoding", "content"),
    [("utf8", "a\nm\xfcde\n".encode("latin-1")), ("utf16", b"a\n1\n\n"), ("ascii", "a\nmüde\n".encode())],
)
def test_a_wrong_encoding(table, encoding, content):
    for types in ({}, {"a": "string"}):
        with pytest.raises(ParameterError, match="t.csv' cannot be read with separator ',' and encoding"):
            table(content, encoding=encoding, set_column_types=types).to_pandas_dataframe()


@pytest.mark.parametrize("encoding", ["rot13", "hex", "base64", 3])
def test_what_is_no_encoding(table, encoding):
    with pytest.raises(ParameterError, match="encoding .* is not known"):
        table("a\n", encoding=encoding)


@pytest.mark.parametrize("what", ["changed", "removed", "replaced"])
def test_a_file_that_changes_while_it_is_read(table, workspace, monkeypatch, what):
    from airflow_mlpipe.sdk import delimited

    dataset = table("a\n1\n2\n")
    path = workspace.get_default_datastore()._store.path_of("in/t.csv")
    read = delimited.Delimited.read

    def disturbed(self, *args):
        found = read(self, *args)
        if what == "removed":
            path.unlink()
        elif what == "replaced":
            other = path.with_name("other")
            other.write_bytes(path.read_bytes())
            other.replace(path)
        else:
            path.write_text("a\n1\n2\n3\n")
        return found

    monkeypatch.setattr(delimited.Delimited, "read", disturbed)
    with pytest.raises(StorageError, match=r"t.csv' (changed|was removed) while it was read; try again"):
        dataset.to_pandas_dataframe()


def test_half_a_file_is_told_as_a_change(table, workspace, monkeypatch):
    from airflow_mlpipe.sdk import delimited

    dataset = table("a\n1\n")
    path = workspace.get_default_datastore()._store.path_of("in/t.csv")

    def half(self, *args):
        path.write_text("a,b\n1")
        raise ParameterError("half a file")

    monkeypatch.setattr(delimited.Delimited, "read", half)
    with pytest.raises(StorageError, match="t.csv' changed while it was read"):
        dataset.to_pandas_dataframe()


def test_line_breaks_in_quotes_wherever_blocks_end(table):
    # Arrow's fast reader cuts at any line break, and a cut inside of quotes shifts values without a word.
    texts = [f"{'y' * (n % 7)}\n{n}\r\n" for n in range(120_000)]
    lines = "".join(f'"{text}",{n}\n' for n, text in enumerate(texts))
    frame = table(f"s,n\n{lines}").to_pandas_dataframe()
    assert frame["n"].tolist() == list(range(120_000))
    assert frame["s"].tolist() == texts


def test_rows_of_any_length(table):
    long = "z" * 3_000_000
    assert columns(table(f"a,b\n1,{long}\n2,y\n").to_pandas_dataframe()) == {"a": [1, 2], "b": [long, "y"]}


def test_libraries_that_do_not_go_together_are_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "pyarrow.py").write_text("raise ImportError('pyarrow requires NumPy 2.0 or newer, found 1.23.5')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    with pytest.raises(ConfigError, match=r"do not go together: pyarrow requires NumPy 2.0 or newer, found 1\.23\.5"):
        needs_pandas()
