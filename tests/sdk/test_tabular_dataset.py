from __future__ import annotations

import sqlite3
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlpipe import (
    DataPath,
    Dataset,
    DatasetChangedWarning,
    DataType,
    FileDataset,
    PromoteHeadersBehavior,
    TabularDataset,
)
from airflow_mlpipe.errors import MissingDataError, NotSupportedError, ParameterError, StorageError
from airflow_mlpipe.storage.database import Database

pandas = pytest.importorskip("pandas")

PEOPLE = "name,age,joined\nAnn,31,2020-01-01\nBob,,2020-02-01T12:00:00\n,45,2020-03-01\nCid,19,2020-04-01\n"


@pytest.fixture
def store(workspace):
    return workspace.get_default_datastore()


@pytest.fixture
def put(store):
    def write(name: str, content: str | bytes) -> tuple:
        store._store.write_bytes(name, content.encode() if isinstance(content, str) else content)
        return (store, name)

    return write


@pytest.fixture
def people(put):
    return Dataset.Tabular.from_delimited_files(put("in/people.csv", PEOPLE))


@pytest.fixture
def numbers(put):
    return Dataset.Tabular.from_delimited_files(put("in/n.csv", "n\n" + "".join(f"{n}\n" for n in range(100))))


def columns(dataset, **options):
    frame = dataset.to_pandas_dataframe(**options)
    return {name: [None if value is None or value != value else value for value in frame[name]] for name in frame}


def names(dataset):
    return columns(dataset)["name"]


PINNED = [0, 4, 20, 28, 31, 74, 76, 89]


class TestRows:
    def test_take_and_skip(self, numbers):
        assert columns(numbers.take(3))["n"] == [0, 1, 2]
        assert columns(numbers.skip(98))["n"] == [98, 99]
        assert columns(numbers.skip(5).take(2))["n"] == [5, 6]
        assert columns(numbers.take(2).skip(1))["n"] == [1]
        assert columns(numbers.take(0))["n"] == []

    def test_take_reads_no_more_files_than_it_needs(self, put, store):
        for name in "ab":
            put(f"many/{name}.csv", "n\n1\n2\n")
        put("many/c.csv", b"n\n\xff\n")
        table = Dataset.Tabular.from_delimited_files((store, "many/*.csv"))
        assert columns(table.take(3))["n"] == [1, 2, 1]
        with pytest.raises(ParameterError, match="c.csv' cannot be read"):
            table.take(5).to_pandas_dataframe()

    def test_random_split_parts_the_rows(self, numbers):
        one, other = numbers.random_split(0.8, seed=3)
        first, second = columns(one)["n"], columns(other)["n"]
        assert sorted(first + second) == list(range(100))
        assert 60 < len(first) < 95
        # Pinned: a release that drew other rows would change results under the same key.
        assert columns(numbers.take_sample(0.1, seed=3))["n"] == PINNED
        assert numbers.random_split(0.8)[0].spec == numbers.random_split(0.8)[0].spec

    def test_filter(self, people):
        age, name = people["age"], people["name"]
        assert names(people.filter(age > 30)) == ["Ann", None]
        assert names(people.filter((age > 30) & ~name.is_null())) == ["Ann"]
        assert names(people.filter((age < 20) | name.is_null())) == [None, "Cid"]
        assert names(people.filter(age.is_null())) == ["Bob"]
        assert names(people.filter(~(age > 30))) == ["Cid"]
        assert names(people.filter(name.isin(["Bob", "Cid"]))) == ["Bob", "Cid"]
        assert names(people.filter(name.starts_with("A") | name.contains("i"))) == ["Ann", "Cid"]
        assert names(people.filter(people["joined"] >= datetime(2020, 2, 1, 12))) == ["Bob", None, "Cid"]
        assert names(people.filter(name == name)) == ["Ann", "Bob", "Cid"]
        assert names(people.filter(name != "Ann")) == ["Bob", "Cid"]

    @pytest.mark.parametrize(
        ("condition", "what"),
        [
            (lambda t: t["ago"] > 3, "has no column 'ago'; did you mean 'age'"),
            (lambda t: t["name"] > 3, "does not fit the data: 'name' holds string"),
            (lambda t: t["age"], "is no condition; compare it"),
            (lambda t: t["age"] > datetime(2020, 1, 1), "does not fit the data: 'age' holds int64"),
        ],
    )
    def test_filter_refusals_when_it_is_read(self, people, condition, what):
        with pytest.raises(ParameterError, match=what):
            people.filter(condition(people)).to_pandas_dataframe()

    def test_filter_refusals_when_it_is_written(self, people):
        for wrong, what in (
            (lambda: people["age"] > 1 and people["age"] < 3, "join conditions with & | ~"),
            (lambda: people["age"] > 1 & people["age"], "compares with|right side|unsupported"),
            (lambda: people["age"] == None, r"is compared with None; write .*is_null\(\)"),  # noqa: E711
            (lambda: people["age"] > float("nan"), "a finite number"),
            (lambda: people["age"] > [1], "a condition compares with"),
            (lambda: people[["age"]], "give the name of one column"),
        ):
            with pytest.raises((ParameterError, TypeError), match=what):
                wrong()

    def test_numpy_values_compare(self, people):
        numpy = pytest.importorskip("numpy")
        assert names(people.filter(people["age"] == numpy.int64(19))) == ["Cid"]
        assert names(people.filter(people["joined"] == pandas.Timestamp("2020-01-01"))) == ["Ann"]


class TestColumns:
    def test_keep_and_drop(self, people):
        assert list(columns(people.keep_columns(["age", "name"]))) == ["age", "name"]
        assert list(columns(people.drop_columns("age"))) == ["name", "joined"]
        assert list(columns(people.filter(people["age"] > 30).keep_columns("name"))) == ["name"]

    def test_a_column_that_does_not_exist(self, people):
        for wrong in (people.keep_columns(["nmae", "age"]), people.drop_columns("nmae")):
            with pytest.raises(
                ParameterError, match=r"has no column 'nmae'; did you mean 'name'\?; it has: name, age, joined"
            ):
                wrong.to_pandas_dataframe()
        with pytest.raises(ParameterError, match="has no column 'nmae'"):
            people.keep_columns("nmae", validate=True)
        for wrong in ([], 3, [3]):
            with pytest.raises(ParameterError, match=r"keep_columns\(.*\) is not allowed"):
                people.keep_columns(wrong)

    def test_only_what_is_needed_is_read(self, put, monkeypatch):
        from airflow_mlpipe.sdk import delimited

        seen = []
        read = delimited.Delimited.read
        monkeypatch.setattr(delimited.Delimited, "read", lambda self, *a: seen.append(self.columns) or read(self, *a))
        table = Dataset.Tabular.from_delimited_files(put("in/x.csv", "a,b,c\n1,2,3\n"))
        assert list(columns(table.filter(table["a"] > 0).keep_columns("c"))) == ["c"]
        assert seen == [("a", "c")]


class TestTime:
    @pytest.fixture
    def timed(self, people):
        return people.with_timestamp_columns("joined")

    def test_windows(self, timed):
        first, last = datetime(2020, 2, 1, 12), datetime(2020, 4, 1)
        assert names(timed.time_before(first)) == ["Ann", "Bob"]
        assert names(timed.time_before(first, include_boundary=False)) == ["Ann"]
        assert names(timed.time_after(first)) == ["Bob", None, "Cid"]
        assert names(timed.time_between(first, last)) == ["Bob", None, "Cid"]
        assert names(timed.time_between(first, last, include_boundary=False)) == [None]

    def test_recent_counts_from_the_call(self, people, put):
        now = datetime.now()
        rows = "".join(f"{(now - timedelta(days=days)).isoformat()}\n" for days in (0.5, 1.5, 9))
        table = Dataset.Tabular.from_delimited_files(put("in/r.csv", "at\n" + rows)).with_timestamp_columns("at")
        recent = table.time_recent(timedelta(days=2, hours=14))
        assert len(recent.to_pandas_dataframe()) == 2
        assert recent.spec.operations[-1].start is not None

    def test_names_of_the_columns(self, people, timed):
        both = people.with_timestamp_columns(fine_grain_timestamp="joined", coarse_grain_timestamp="age")
        assert both.timestamp_columns == ("joined", "age")
        assert both.drop_columns("age").timestamp_columns == ("joined", None)
        assert both.keep_columns("name").timestamp_columns == (None, None)
        with pytest.raises(ParameterError, match="has no column 'jonied'; did you mean 'joined'"):
            people.with_timestamp_columns("jonied", validate=True)

    def test_refusals(self, people, timed):
        for wrong, what in (
            (lambda: people.time_before(datetime.now()), r"has no time; name its column: with_timestamp_columns"),
            (lambda: timed.time_after("2020-01-01"), "'2020-01-01' is not allowed; give a datetime"),
            (lambda: timed.time_recent(3), "give a timedelta"),
            (lambda: people.with_timestamp_columns(partition_timestamp="age"), "needs timestamp as well"),
            (lambda: people.with_timestamp_columns("age", "age"), "given for both"),
        ):
            with pytest.raises(ParameterError, match=what):
                wrong()
        with pytest.raises(ParameterError, match="does not fit the data: 'name' holds string"):
            people.with_timestamp_columns("name").time_before(datetime.now()).to_pandas_dataframe()


class TestOtherFormats:
    def test_parquet(self, store, tmp_path):
        for name, frame in {
            "a": pandas.DataFrame({"n": [1, 2], "s": ["x", "y"]}), "b": pandas.DataFrame({"n": [2.5], "extra": [True]})
        }.items():  # fmt: skip
            frame.to_parquet(tmp_path / "x")
            store._store.copy_in(tmp_path / "x", f"p/{name}.parquet")
        table = Dataset.Tabular.from_parquet_files((store, "p/*.parquet"), include_path=True)
        assert columns(table) == {
            "Path": ["/a.parquet", "/a.parquet", "/b.parquet"], "n": [1, 2, 2.5], "s": ["x", "y", None],
            "extra": [None, None, True],
        }  # fmt: skip
        assert columns(table.keep_columns("n"))["n"] == [1, 2, 2.5]
        typed = Dataset.Tabular.from_parquet_files(
            (store, "p/a.parquet"), set_column_types={"n": "string", "s": "long"}
        )
        assert columns(typed) == {"n": ["1", "2"], "s": [None, None]}
        with pytest.raises(ParameterError, match="column 's', row 1: 'x' is not a long"):
            typed.to_pandas_dataframe(on_error="fail")

    def test_no_parquet(self, put):
        with pytest.raises(ParameterError, match="x.parquet' is no Parquet file"):
            Dataset.Tabular.from_parquet_files(put("x.parquet", "text")).to_pandas_dataframe()

    def test_json_lines(self, put):
        table = Dataset.Tabular.from_json_lines_files(put("x.jsonl", '{"a": 1, "b": {"c": 2}}\n{"a": null}\n'))
        frame = table.to_pandas_dataframe()
        assert frame["a"].isna().tolist() == [False, True]
        assert frame["b"][0] == {"c": 2}

    def test_json_lines_of_several_types(self, put):
        table = Dataset.Tabular.from_json_lines_files(put("x.jsonl", '{"a": 1}\n{"a": "x"}\n{"a": [2]}\n'))
        assert columns(table) == {"a": ["1", "x", "[2]"]}

    def test_invalid_lines(self, put):
        place = put("x.jsonl", '{"a": 1}\nnonsense\n[1]\n{"a": 2}\n')
        with pytest.raises(ParameterError, match="line 2: 'nonsense' is no JSON object; .*invalid_lines='drop'"):
            Dataset.Tabular.from_json_lines_files(place).to_pandas_dataframe()
        assert columns(Dataset.Tabular.from_json_lines_files(place, invalid_lines="drop")) == {"a": [1, 2]}
        with pytest.raises(ParameterError, match="allowed are 'error' and 'drop'"):
            Dataset.Tabular.from_json_lines_files(place, invalid_lines="skip")

    def test_json_in_another_encoding(self, put):
        place = put("x.jsonl", '{"a": "müde"}\n'.encode("latin-1"))
        assert columns(Dataset.Tabular.from_json_lines_files(place, encoding="latin1")) == {"a": ["müde"]}
        with pytest.raises(ParameterError, match="x.jsonl' cannot be read with encoding 'utf-8'"):
            Dataset.Tabular.from_json_lines_files(place).to_pandas_dataframe()

    def test_query(self, workspace, store, tmp_path):
        connection = sqlite3.connect(tmp_path / "x.db")
        connection.executescript(
            "CREATE TABLE t (n INTEGER, d TEXT); INSERT INTO t VALUES (1, '2020-01-01'), (2, NULL)"
        )
        connection.close()
        workspace._stores[store.name] = Database(store.name, f"sqlite:///{tmp_path / 'x.db'}", {})
        for query in ((store, "SELECT n, d FROM t ORDER BY n"), DataPath(store, "SELECT n, d FROM t ORDER BY n")):
            table = Dataset.Tabular.from_sql_query(query, set_column_types={"d": DataType.to_datetime()})
            assert columns(table) == {"n": [1, 2], "d": [pandas.Timestamp("2020-01-01"), None]}
        assert columns(table.filter(table["n"] > 1))["n"] == [2]
        one = Dataset.Tabular.from_sql_query((store, "SELECT 1 AS a"), query_timeout=timedelta(seconds=5))
        assert one.content() != table.content()
        assert one.spec.options["query_timeout_s"] == 5
        with pytest.raises(StorageError, match="no such column: nope"):
            Dataset.Tabular.from_sql_query((store, "SELECT nope FROM t")).to_pandas_dataframe()

    def test_query_refusals(self, store):
        for wrong in ("SELECT 1", (store, ""), (store, 3), ("db", "SELECT 1")):
            with pytest.raises(ParameterError, match="from_sql_query: query .* is not allowed; give"):
                Dataset.Tabular.from_sql_query(wrong)
        with pytest.raises(ParameterError, match="query_timeout=-1"):
            Dataset.Tabular.from_sql_query((store, "SELECT 1"), query_timeout=-1)
        with pytest.raises(NotSupportedError, match="holds files, a query needs a database"):
            Dataset.Tabular.from_sql_query((store, "SELECT 1")).to_pandas_dataframe()


class TestFiles:
    def test_to_parquet_and_csv_files(self, people, store):
        kept = people.keep_columns(["name", "age"])
        parquet, csv = kept.to_parquet_files(), kept.to_csv_files(separator=";")
        assert (type(parquet), type(csv)) == (FileDataset, FileDataset)
        assert (parquet.to_path(), csv.to_path()) == (["/part-00000.parquet"], ["/part-00000.csv"])
        with csv.mount() as mount:
            text = Path(mount.mount_point, "part-00000.csv").read_text()
        assert text.splitlines()[:2] == ['"name";"age"', '"Ann";31']
        place = parquet.spec.sources[0].path
        assert columns(Dataset.Tabular.from_parquet_files((store, place)))["age"] == [31, None, 45, 19]

    def test_the_same_rows_are_written_once(self, people, put, store):
        first = people.to_parquet_files()
        root = Dataset.File.from_files(store)
        assert root.to_path() == ["/in/people.csv"]
        assert people.to_parquet_files().spec == first.spec
        assert people.to_csv_files().spec != first.spec
        assert people.take(1).to_parquet_files().spec != first.spec
        put("in/people.csv", PEOPLE + "Dan,1,2021-01-01\n")
        assert people.to_parquet_files().spec != first.spec

    def test_separator(self, people):
        with pytest.raises(ParameterError, match="separator '::' is not allowed"):
            people.to_csv_files("::")

    def test_register_pandas_dataframe(self, workspace, store):
        frame = pandas.DataFrame({"n": [1, 2], "s": ["a", None]})
        first = Dataset.Tabular.register_pandas_dataframe(frame, (store, "frames"), "f", "text", {"a": "1"})
        assert (type(first), first.version, first.description, first.tags) == (TabularDataset, 1, "text", {"a": "1"})
        assert columns(Dataset.get_by_name(workspace, "f")) == {"n": [1, 2], "s": ["a", None]}
        assert Dataset.Tabular.register_pandas_dataframe(frame, (store, "frames"), "f").version == 1
        second = Dataset.Tabular.register_pandas_dataframe(frame.assign(n=3), (store, "frames"), "f")
        assert second.version == 2
        # Each version keeps its bytes.
        assert columns(Dataset.get_by_name(workspace, "f", version=1))["n"] == [1, 2]

    def test_register_pandas_dataframe_refusals(self, store):
        with pytest.raises(ParameterError, match="list is not allowed; give a pandas DataFrame"):
            Dataset.Tabular.register_pandas_dataframe([1], store, "f")
        with pytest.raises(ParameterError, match="cannot be written as Parquet"):
            Dataset.Tabular.register_pandas_dataframe(pandas.DataFrame({"a": [1, "x", object()]}), store, "f")


class TestPartitions:
    def test_partition_by(self, workspace, store, put):
        text = "kind,n,at\na/b,1,2020-01-01\nc,2,2020-01-02\na/b,3,2020-01-01\n"
        table = Dataset.Tabular.from_delimited_files(put("in/p.csv", text))
        parts = table.partition_by(["kind", "n"], (store, "parts"), name="parted", show_progress=False)
        assert parts.partition_keys == ["kind", "n"]
        assert parts.version == 1
        found = columns(Dataset.get_by_name(workspace, "parted"))
        assert found == {
            "kind": ["a/b", "a/b", "c"], "n": [1, 3, 2],
            "at": [pandas.Timestamp("2020-01-01"), pandas.Timestamp("2020-01-01"), pandas.Timestamp("2020-01-02")],
        }  # fmt: skip
        values = parts.get_partition_key_values(["kind"])
        assert values.to_dict("list") == {"kind": ["a/b", "c"]}
        assert len(parts.get_partition_key_values()) == 3

    def test_as_files(self, store, put):
        table = Dataset.Tabular.from_delimited_files(put("in/p.csv", "kind,n\na,1\nb,2\n"))
        files = table.partition_by(["kind"], (store, "parts"), show_progress=False, partition_as_file_dataset=True)
        assert type(files) is FileDataset
        assert files.filter(files["kind"] == "b").to_path() == ["/b/part-00000.parquet"]

    def test_refusals(self, people, store):
        with pytest.raises(ParameterError, match="column 'name' of .* has missing values"):
            people.partition_by(["name"], store, show_progress=False)
        with pytest.raises(ParameterError, match="has no column 'nam'; did you mean 'name'"):
            people.partition_by(["nam"], store, show_progress=False)
        with pytest.raises(ParameterError, match="none, the dataset has no partition_format"):
            people.get_partition_key_values(["x"])


class TestVersions:
    def test_a_version_whose_bytes_have_changed_says_so(self, workspace, people, put):
        registered = people.register(workspace, "people")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            registered.to_pandas_dataframe()
            put("in/people.csv", PEOPLE + "Dan,1,2021-01-01\n")
            # What is not registered has no version to differ from.
            people.to_pandas_dataframe()
        for read in (registered, registered.take(9), Dataset.get_by_name(workspace, "people")):
            with pytest.warns(DatasetChangedWarning, match="dataset 'people' version 1 has changed") as caught:
                assert len(read.to_pandas_dataframe()) == 5
            assert "the file changed" in str(caught[0].message)
            assert caught[0].filename == __file__

    def test_the_files_are_named(self, workspace, store, put):
        for name in "abcd":
            put(f"many/{name}", name)
        registered = Dataset.File.from_files((store, "many")).register(workspace, "many")
        put("many/a", "other")
        put("many/e", "new")
        store._store.remove("many/b")
        for read in (registered.to_path, registered.download, registered.mount):
            with pytest.warns(DatasetChangedWarning, match="3 of 5 files differ: a changed, b removed, e added"):
                read()

    def test_the_next_version_is_not_changed(self, workspace, people, put):
        people.register(workspace, "people")
        put("in/people.csv", PEOPLE + "Dan,1,2021-01-01\n")
        second = people.register(workspace, "people", create_new_version=True)
        assert second.version == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            second.to_pandas_dataframe()

    def test_texts(self, workspace, people):
        registered = people.register(workspace, "people", "old", {"a": "1", "b": "2"})
        registered.add_tags({"c": "3"})
        registered.remove_tags(["a"])
        registered.update(description="new")
        found = Dataset.get_by_name(workspace, "people")
        assert (found.description, found.tags) == ("new", {"b": "2", "c": "3"}) == (
            registered.description, registered.tags,
        )  # fmt: skip
        for call in (people.update, people.unregister_all_versions, lambda: people.add_tags({"a": "1"})):
            with pytest.raises(ParameterError, match=r"is not registered; register it: dataset.register\(ws, 'name'\)"):
                call()

    def test_unregister(self, workspace, people, put):
        registered = people.register(workspace, "people")
        registered.unregister_all_versions()
        assert "people" not in workspace.datasets
        assert registered.version is None
        assert len(registered.to_pandas_dataframe()) == 4

    def test_gone_data_is_an_error(self, workspace, people, store):
        registered = people.register(workspace, "people")
        store._store.remove("in/people.csv")
        with pytest.raises(MissingDataError, match="there is no 'in/people.csv'"):
            registered.to_pandas_dataframe()


def test_a_table_has_no_paths(people):
    for name in ("to_path", "download", "mount"):
        with pytest.raises(AttributeError, match="is a TabularDataset, which has rows and no paths"):
            getattr(people, name)()


def test_headers(put, store):
    for name in "ab":
        put(f"h/{name}.csv", "x,y\n1,2\n" if name == "a" else "3,4\n")
    place = (store, "h/*.csv")
    first = Dataset.Tabular.from_delimited_files(place, header=PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS)
    assert columns(first) == {"x": [1, 3], "y": [2, 4]}
    put("h/b.csv", "y,x\n4,3\n")
    for header in ("COMBINE_ALL_FILES_HEADERS", "ALL_FILES_HAVE_SAME_HEADERS"):
        assert columns(Dataset.Tabular.from_delimited_files(place, header=PromoteHeadersBehavior[header])) == {
            "x": [1, 3],
            "y": [2, 4],
        }
    none = Dataset.Tabular.from_delimited_files(place, header=PromoteHeadersBehavior.NO_HEADERS)
    assert columns(none)["Column1"] == ["x", "1", "y", "4"]
