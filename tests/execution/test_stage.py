from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_mlpipe.errors import MissingDataError, PipelineError
from airflow_mlpipe.execution.software import this_interpreter
from airflow_mlpipe.execution.stage import discard
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import Argument

BLOB = "workspaceblobstore"
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), sorted(os.listdir()), dict(os.environ)]))"
PRODUCED = StepOutputRef(step="a", output="out")


def dataset(*paths: str, store: str = BLOB) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore=store, path=path) for path in paths))


def reading(source, **fields) -> dict:
    return {
        "inputs": (InputSpec(name="data", source=source, **fields),),
        "arguments": (Argument(kind="input", value="data"),),
    }


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_cwd_is_a_fresh_copy_of_the_snapshot_with_outputs_and_logs(bench):
    (bench.source / "helper.txt").write_text("h")
    _, cwd, names, _ = json.loads(bench.printed(bench.python(SHOW)))
    assert names == ["helper.txt", "logs", "main.py", "outputs"]
    assert Path(cwd) == bench.job.cwd
    assert Path(cwd) != bench.source


def test_each_try_has_its_own_folder_emptied_before_use(bench):
    first = bench.stage(bench.python(SHOW))
    (first.cwd / "left.txt").write_text("left")
    bench.tries -= 1
    again = bench.stage(first.step)
    assert again.work == first.work
    assert not (again.cwd / "left.txt").exists()


def test_arguments_keep_their_order_and_python_text(bench):
    bench.parameters = {"rate": 0.1, "flag": True, "n": 3, "text": "a b;$HOME"}
    words = ("--rate", "rate", "--flag", "flag", "--n", "n", "--text", "text")
    arguments = tuple(Argument(kind="parameter" if i % 2 else "literal", value=w) for i, w in enumerate(words))
    argv, _, _, env = json.loads(bench.printed(bench.python(SHOW, arguments=arguments)))
    assert argv == ["--rate", "0.1", "--flag", "True", "--n", "3", "--text", "a b;$HOME"]
    assert env["AML_PARAMETER_rate"] == "0.1"
    assert env["AML_PARAMETER_flag"] == "True"


def test_params_become_variables(bench):
    bench.parameters = {"p": 7, "unused": 1}
    parameters = {"LR": Argument(value="0.5"), "N": Argument(kind="parameter", value="p")}
    env = json.loads(bench.printed(bench.python(SHOW, parameters=parameters)))[3]
    assert (env["AML_PARAMETER_LR"], env["AML_PARAMETER_N"]) == ("0.5", "7")
    assert bench.job.context.parameters == {"p": 7}
    assert "AML_PARAMETER_unused" not in env


def test_values_are_never_parsed_by_the_shell(bench, tmp_path):
    trap = tmp_path / "trap"
    value = f'\'; touch {trap}; echo "$(touch {trap})" `touch {trap}` * $HOME\\'
    bench.parameters = {"p": value}
    step = bench.shell("printf '%s|' begin", Argument(kind="parameter", value="p"), "end && printf done")
    assert bench.printed(step) == f"begin|{value}|end|done"
    assert not trap.exists()


def test_more_than_nine_shell_values(bench):
    bench.parameters = {f"p{i}": f"v{i}" for i in range(12)}
    step = bench.shell("echo", *(Argument(kind="parameter", value=f"p{i}") for i in range(12)))
    assert bench.printed(step).split() == [f"v{i}" for i in range(12)]


def test_pipeline_data_has_a_parent_but_is_not_made(bench):
    outputs = (OutputSpec(name="out", datastore=BLOB), OutputSpec(name="set", kind="dataset", datastore="second"))
    job = bench.stage(bench.python(SHOW, outputs=outputs))
    assert job.outputs["out"] == bench.blob.root / "azureml/step-run-1/out"
    assert job.outputs["out"].parent.is_dir()
    assert not job.outputs["out"].exists()
    assert job.outputs["set"] == bench.stores["second"].root / "dataset/step-run-1/set"
    assert job.outputs["set"].is_dir()
    assert job.argv[2:] == [str(job.outputs["out"]), str(job.outputs["set"])]
    assert job.env["AZUREML_DATAREFERENCE_out"] == str(job.outputs["out"])
    assert job.env["set"] == str(job.outputs["set"])
    assert "out" not in job.env
    assert "AZUREML_DATAREFERENCE_set" not in job.env


def test_what_an_earlier_try_wrote_is_removed(bench):
    step = bench.python(SHOW, outputs=(OutputSpec(name="out", datastore=BLOB),))
    bench.stage(step).outputs["out"].write_text("partial")
    assert not bench.stage(step).outputs["out"].exists()


def test_a_step_output_is_mounted_at_its_real_path(bench):
    record = bench.record({"a/b.txt": "hello"})
    job = bench.stage(bench.python(SHOW, **reading(PRODUCED)), {"data": record})
    assert job.argv[2:] == [str(bench.blob.root / record.path)]
    assert job.env["AZUREML_DATAREFERENCE_data"] == job.argv[2]
    assert "data" not in job.env
    assert not job.context.inputs["data"].as_dataset


def test_a_step_output_as_dataset_has_both_variables(bench):
    job = bench.stage(bench.python(SHOW, **reading(PRODUCED, as_dataset=True)), {"data": bench.record("x")})
    assert job.env["data"] == job.env["AZUREML_DATAREFERENCE_data"] == job.argv[2]
    assert job.context.inputs["data"].dataset == dataset("azureml/earlier/out")


@pytest.mark.parametrize("content", ["text", {"a.txt": "text", "sub/b.txt": "t"}])
def test_download_is_a_private_writable_copy(bench, content):
    record = bench.record(content)
    job = bench.stage(bench.python(SHOW, **reading(PRODUCED, mode="download")), {"data": record})
    copy, original = Path(job.argv[2]), bench.blob.root / record.path
    assert copy.is_relative_to(job.work)
    files = [copy] if isinstance(content, str) else [copy / name for name in content]
    for file in files:
        file.write_text("mine")
    assert original.read_text() == "text" if isinstance(content, str) else tree(original) == content


def test_a_producer_whose_bytes_are_gone_is_missing_data(bench):
    record = bench.record("x")
    (bench.blob.root / record.path).unlink()
    with pytest.raises(MissingDataError, match="input 'data': output 'out' is gone"):
        bench.stage(bench.python(SHOW, **reading(PRODUCED)), {"data": record})


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_single_file_dataset_is_the_file_itself(bench, mode):
    bench.put("raw/d.csv", "1,2")
    job = bench.stage(bench.python(SHOW, **reading(dataset("raw/d.csv"), mode=mode)))
    path = Path(job.argv[2])
    assert (path.name, path.read_text()) == ("d.csv", "1,2")
    assert (path == bench.blob.root / "raw/d.csv") == (mode == "mount")
    assert job.env["data"] == str(path)
    assert "AZUREML_DATAREFERENCE_data" not in job.env
    assert job.context.inputs["data"].as_dataset


def test_a_folder_dataset_is_mounted_at_its_real_path(bench):
    bench.put("raw/a.csv")
    assert bench.stage(bench.python(SHOW, **reading(dataset("raw")))).argv[2] == str(bench.blob.root / "raw")


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_pattern_gives_a_folder_in_v1_layout(bench, mode):
    for name in ("dog/year-1/1.jpg", "dog/year-2/2.jpg", "dog/year-2/notes.txt"):
        bench.put(f"animals/{name}", name)
    source = dataset("animals/dog/year-*/*.jpg")
    folder = Path(bench.stage(bench.python(SHOW, **reading(source, mode=mode))).argv[2])
    assert tree(folder) == {"year-1/1.jpg": "dog/year-1/1.jpg", "year-2/2.jpg": "dog/year-2/2.jpg"}
    # os.walk must see everything although it does not enter folders that are links.
    assert {name for _, _, names in os.walk(folder) for name in names} == {"1.jpg", "2.jpg"}


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_several_sources_share_the_folder_above_them(bench, mode):
    bench.put("raw/x/a.csv", "a")
    bench.put("raw/y/b.csv", "b")
    bench.put("raw/z/c.csv", "c")
    source = dataset("raw/x", "raw/y/b.csv", "raw/x/a.csv")
    folder = Path(bench.stage(bench.python(SHOW, **reading(source, mode=mode))).argv[2])
    assert tree(folder) == {"x/a.csv": "a", "y/b.csv": "b"}


def test_sources_in_several_datastores_begin_with_its_name(bench):
    both = (bench.put("d/a.csv", "a"), bench.put("e/b.csv", "b", store="second"))
    folder = Path(bench.stage(bench.python(SHOW, **reading(DatasetSpec(kind="file", sources=both)))).argv[2])
    assert tree(folder) == {f"{BLOB}/a.csv": "a", "second/b.csv": "b"}


def test_the_root_of_a_store_is_shown_without_our_own_folders(bench):
    bench.put("a.csv", "a")
    bench.record("secret")
    folder = Path(bench.stage(bench.python(SHOW, **reading(dataset("")))).argv[2])
    assert tree(folder) == {"a.csv": "a"}


def test_a_direct_dataset_is_its_id_in_the_arguments(bench):
    bench.put("raw/d.csv")
    step = bench.python(SHOW, **reading(dataset("raw/d.csv"), mode="direct", dataset_id="id-7", label="dataset d v1"))
    job = bench.stage(step)
    assert job.argv[2] == "id-7"
    told = job.context.inputs["data"]
    assert (told.path, told.dataset, told.dataset_id) == (None, dataset("raw/d.csv"), "id-7")
    assert "data" not in job.env


def test_a_data_reference_may_point_at_nothing_yet(bench):
    job = bench.stage(bench.python(SHOW, **reading(DatastorePath(datastore=BLOB, path="new/place"))))
    assert job.argv[2] == str(bench.blob.root / "new/place")
    assert not Path(job.argv[2]).exists()
    assert job.env["AZUREML_DATAREFERENCE_data"] == job.argv[2]


def test_path_on_compute_is_relative_to_the_working_directory(bench):
    bench.put("raw/a.csv", "a")
    step = bench.python("print(open('in/data/a.csv').read())", **reading(dataset("raw"), path_on_compute="in/data"))
    assert bench.printed(step) == "a\n"
    assert bench.job.argv[2] == str(bench.job.cwd / "in/data")


def test_an_absolute_path_on_compute_is_a_link_that_goes_with_the_job(bench, tmp_path):
    bench.put("raw/a.csv", "a")
    wanted = tmp_path / "elsewhere" / "data"
    step = bench.python(SHOW, **reading(dataset("raw"), path_on_compute=str(wanted), mode="download"))
    killed = bench.stage(step)
    assert (wanted / "a.csv").read_text() == "a"
    job = bench.stage(step)
    assert killed.work.name == "try-1"
    assert wanted.readlink().is_relative_to(job.work)
    discard(job)
    assert not wanted.is_symlink()
    assert not job.work.exists()


def test_a_taken_path_on_compute_is_refused(bench, tmp_path):
    bench.put("raw/a.csv")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(PipelineError, match=r"input 'data': path_on_compute .*taken' cannot be made"):
        bench.stage(bench.python(SHOW, **reading(dataset("raw"), path_on_compute=str(taken))))
    assert taken.read_text() == "mine"


def test_the_environment_is_built_from_an_allow_list(bench):
    parent = {
        **{"PATH": os.environ["PATH"], "HOME": "/h", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "p"},
        **{
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "s3cret",
            "AIRFLOW_CONN_X": "s3cret",
            "AWS_SECRET_ACCESS_KEY": "s3cret",
        },
        **{"PYTHONPATH": "/p", "TEAM_NAME": "blue", "MLPIPE_CONTEXT": "/other", "RANDOM": "r"},
    }
    env = bench.stage(bench.python(SHOW), software=this_interpreter(parent), passed=("TEAM_*", "AIRFLOW__*")).env
    assert {k: env[k] for k in ("HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "https_proxy", "TEAM_NAME")} == {
        "HOME": "/h", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "p", "TEAM_NAME": "blue",
    }  # fmt: skip
    assert not [name for name, value in env.items() if "s3cret" in value or name == "RANDOM" or "AIRFLOW" in name]
    assert "/p" not in env.get("PYTHONPATH", "").split(os.pathsep)
    assert env["MLPIPE_CONTEXT"] == str(bench.workspace / "work/step-run-1/try-1/context.json")


def test_identity_and_user_variables(bench):
    spec = EnvironmentSpec(variables={"MODE": "fast", "AZUREML_RUN_ID": "forged"})
    env = bench.stage(bench.python(SHOW, environment=spec)).env
    assert env["MODE"] == "fast"
    assert (env["AZUREML_RUN_ID"], env["AZUREML_ROOT_RUN_ID"]) == ("step-run-1", "run-1")
    assert env["AZUREML_ARM_PROJECT_NAME"] == "exp"
    assert env["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("name", ["PATH", "HOME", "PYTHONPATH", "LD_PRELOAD", "MLPIPE_CONTEXT", "BASH_ENV"])
def test_a_port_never_takes_a_name_of_the_system(bench, name):
    bench.put("raw/a.csv")
    plain = bench.stage(bench.python(SHOW)).env
    step = bench.python(SHOW, inputs=(InputSpec(name=name, source=dataset("raw")),))
    env = bench.stage(step).env
    assert env.pop(f"AZUREML_DATAREFERENCE_{name}") == str(bench.blob.root / "raw")
    assert {k for k in env if env[k] != plain.get(k)} <= {"MLPIPE_CONTEXT"}


def test_a_script_in_a_folder_imports_from_the_root(bench):
    (bench.source / "shared").mkdir()
    (bench.source / "shared/__init__.py").write_text("WORD = 'found'")
    assert bench.printed(bench.python("from shared import WORD; print(WORD)", name="jobs/train.py")) == "found\n"


def test_the_package_can_be_imported_by_the_step(bench):
    script = "from airflow_mlpipe.execution.context import current_context; print(current_context().step)"
    assert bench.printed(bench.python(script)) == "my step\n"
