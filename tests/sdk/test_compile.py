from __future__ import annotations

import shutil

import pytest

from airflow_mlpipe import (
    AmlCompute,
    CommandStep,
    ComputeTarget,
    DataReference,
    Dataset,
    Datastore,
    Environment,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)
from airflow_mlpipe.errors import ConfigError, ParameterError, PipelineError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, StepOutputRef
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.sdk.compile import compile_pipeline


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for name in ("a.py", "b.py"):
        (folder / name).write_text(f"print('{name}')\n")
    return folder


@pytest.fixture
def store(workspace):
    return workspace.get_default_datastore()


def spec_of(workspace, *steps, **options):
    return compile_pipeline(Pipeline(workspace, list(steps), **{"name": "p", **options})).spec


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.name.startswith("index.db")
    )


def test_one_of_everything(workspace, store, source):
    ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration("STANDARD_D2_V2", max_nodes=2))
    rate = PipelineParameter("rate", 0.5)
    mid, out = PipelineData("mid", output_name="made"), OutputFileDatasetConfig("out", (store, "results/{run-id}"))
    images = Dataset.File.from_files([(store, "in/")]).as_named_input("images")
    first = PythonScriptStep(
        "./a.py", "first", ["--in", images.as_download(), "--rate", rate, mid], "cpu",
        inputs=[images, DataReference(store, "ref", "x")], outputs=[mid], params={"n": 1},
        source_directory=source, version="2", retries=1, retry_delay_s=2, timeout_s=9,
    )  # fmt: skip
    last = CommandStep(["cat", mid.as_input("m"), out], "last", source_directory=source, allow_reuse=False)
    last.run_after(first)
    spec = spec_of(workspace, last, first, description="d", schedule="@daily")
    assert (spec.name, spec.description, spec.schedule) == ("p", "d", "@daily")
    assert [(p.name, p.type, p.default) for p in spec.parameters] == [("rate", "number", 0.5)]
    assert [step.id for step in spec.steps] == ["first", "last"]
    one, two = spec.steps
    assert (one.kind, one.script, one.compute, one.version) == ("python", "a.py", "cpu", "2")
    assert (one.retries, one.retry_delay_s, one.timeout_s, one.allow_reuse) == (1, 2.0, 9.0, True)
    assert [(a.kind, a.value) for a in one.arguments] == [
        ("literal", "--in"), ("input", "images"), ("literal", "--rate"), ("parameter", "rate"), ("output", "made"),
    ]  # fmt: skip
    assert one.parameters["n"].value == "1"
    images_port, ref_port = one.inputs
    assert images_port.source == DatasetSpec(
        kind="file", sources=(DatastorePath(datastore="workspaceblobstore", path="in"),)
    )
    assert (images_port.mode, images_port.as_dataset, images_port.label) == ("download", True, "workspaceblobstore:/in")
    assert ref_port.source == DatastorePath(datastore="workspaceblobstore", path="x")
    assert not ref_port.as_dataset
    assert [(o.name, o.kind, o.datastore, o.destination) for o in one.outputs] == [
        ("made", "data", "workspaceblobstore", None)
    ]
    assert (two.kind, two.script, two.shell, two.allow_reuse, two.after) == ("command", None, False, False, ("first",))
    assert two.inputs[0].source == StepOutputRef(step="first", output="made")
    assert [(o.name, o.kind, o.destination) for o in two.outputs] == [("out", "dataset", "results/{run-id}")]
    assert PipelineSpec.from_json(spec.to_json()) == spec


def test_same_pipeline_elsewhere_has_the_same_digest(tmp_path, monkeypatch):
    digests = set()
    for place in ("one", "two/deep"):
        folder = tmp_path / place
        (folder / "src").mkdir(parents=True)
        (folder / "src/a.py").write_text("1")
        workspace = Workspace.create(place[:3], path=folder)
        mid = PipelineData("mid")
        output = OutputFileDatasetConfig()
        steps = [
            PythonScriptStep("a.py", arguments=[mid, output], source_directory=folder / "src"),
            PythonScriptStep("a.py", arguments=[mid.as_input(), output.as_input()], source_directory="src"),
        ]
        monkeypatch.chdir(folder)
        digests.add(spec_of(workspace, *steps).digest)
    assert len(digests) == 1


def test_nothing_is_stored(workspace, source):
    before = files(workspace.dir)
    pipeline = Pipeline(workspace, [PythonScriptStep("a.py", source_directory=source)])
    compile_pipeline(pipeline)
    assert pipeline.validate() == []
    assert [name for name in files(workspace.dir) if "catalog" not in name] == [
        name for name in before if "catalog" not in name
    ]


def test_snapshots_are_shared(workspace, source):
    steps = [PythonScriptStep(script, source_directory=source) for script in ("a.py", "b.py", "a.py")]
    compiled = compile_pipeline(Pipeline(workspace, steps))
    assert len(compiled.snapshots) == 1
    assert {step.snapshot for step in compiled.spec.steps} == set(compiled.snapshots)
    assert [step.code for step in compiled.spec.steps] == [step.snapshot for step in compiled.spec.steps]


def test_hash_paths_narrow_the_code(workspace, source):
    (source / "data.txt").write_text("1")
    steps = [
        PythonScriptStep("a.py", source_directory=source, hash_paths=["a.py"]),
        PythonScriptStep("b.py", source_directory=source, hash_paths=["a.py"]),
        PythonScriptStep("b.py", source_directory=source),
    ]
    compiled = compile_pipeline(Pipeline(workspace, steps))
    codes = [step.code for step in compiled.spec.steps]
    assert len(set(codes)) == 3
    assert len({step.snapshot for step in compiled.spec.steps}) == 1
    assert {snapshot.code for snapshot in compiled.snapshots.values()} == set(codes)
    (source / "unrelated.txt").write_text("1")
    again = compile_pipeline(Pipeline(workspace, steps)).spec.steps
    assert [step.code for step in again][:2] == codes[:2]
    assert again[2].code != codes[2]


def test_source_directory_defaults(workspace, source, tmp_path, monkeypatch):
    monkeypatch.chdir(source)
    here = spec_of(workspace, PythonScriptStep("a.py")).steps[0].snapshot
    assert spec_of(workspace, PythonScriptStep("a.py", source_directory=".")).steps[0].snapshot == here
    monkeypatch.chdir(tmp_path)
    step = PythonScriptStep("a.py")
    assert spec_of(workspace, step, default_source_directory=source).steps[0].snapshot == here
    assert spec_of(workspace, step, default_source_directory="src").steps[0].snapshot == here


def test_source_directory_beside_the_file(workspace, source, monkeypatch):
    monkeypatch.chdir("/")
    pipeline = Pipeline(workspace, [PythonScriptStep("a.py", source_directory="src")])
    pipeline._globals = {"__file__": str(source.parent / "pipeline.py")}
    assert compile_pipeline(pipeline).spec.steps[0].snapshot


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("gone.py", "step 's': script 'gone.py'"),
        ("../x.py", "step 's': script '../x.py' lies outside of source_directory"),
        ("hidden.py", "step 's': script 'hidden.py' .* is hidden by"),
    ],
)
def test_script_that_cannot_be_taken(workspace, source, script, what):
    (source / "hidden.py").write_text("")
    (source / ".amlignore").write_text("hidden.py\n")
    with pytest.raises(PipelineError, match=what):
        spec_of(workspace, PythonScriptStep(script, "s", source_directory=source))


def test_source_directory_that_is_not_there(workspace, source):
    with pytest.raises(PipelineError, match="step 's': source_directory .*gone' does not exist"):
        spec_of(workspace, PythonScriptStep("a.py", "s", source_directory=source / "gone"))


def test_snapshot_limit_of_the_workspace(tmp_path, source):
    made = Workspace.create("w", path=tmp_path / "w")
    config = (made.dir / "config.json").read_text()
    (made.dir / "config.json").write_text(config.rstrip().rstrip("}") + ', "settings": {"snapshot_max_files": 1}}')
    with pytest.raises(PipelineError, match="has 2 files; at most 1 are allowed"):
        spec_of(Workspace.from_config(made.dir), PythonScriptStep("a.py", source_directory=source))


def test_parameters(workspace, source):
    def step(*values, **options):
        return PythonScriptStep("a.py", arguments=list(values), source_directory=source, **options)

    one, same = PipelineParameter("p", 1), PipelineParameter("p", 1)
    spec = spec_of(workspace, step(one), step(same), step(params={"x": PipelineParameter("q", "t")}))
    assert [parameter.name for parameter in spec.parameters] == ["p", "q"]
    nodes = step(runconfig_pipeline_params={"NodeCount": PipelineParameter("nodes", 2)})
    assert [parameter.name for parameter in spec_of(workspace, nodes).parameters] == ["nodes"]
    for other in (2, 1.0, True, "1"):
        with pytest.raises(PipelineError, match="Pipeline parameters with same name p but different default values"):
            spec_of(workspace, step(one), step(PipelineParameter("p", other)))


def test_compute_targets(workspace, source):
    target = ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration())
    configuration = RunConfiguration()
    configuration.target = target

    def compute(**options):
        return spec_of(workspace, PythonScriptStep("a.py", source_directory=source, **options)).steps[0].compute

    assert compute() is None
    assert compute(compute_target="local") is None
    assert compute(runconfig=RunConfiguration()) is None
    assert compute(compute_target=target) == compute(compute_target="cpu") == compute(runconfig=configuration) == "cpu"
    assert compute(compute_target="local", runconfig=configuration) is None
    with pytest.raises(ConfigError, match=r"step 'a.py': .*no compute target 'gpu'.*ComputeTarget\.create"):
        compute(compute_target="gpu")
    with pytest.raises(PipelineError, match="compute_target 3 is a int"):
        compute(compute_target=3)
    target.delete()
    with pytest.raises(ConfigError, match="no compute target 'cpu'"):
        compute(compute_target=target)


def test_datastores(workspace, store, source):
    def kept(data, **options):
        step = PythonScriptStep("a.py", outputs=[data], source_directory=source)
        return spec_of(workspace, step, **options).steps[0].outputs[0].datastore

    files_store = Datastore(workspace, "workspacefilestore")
    assert kept(PipelineData("x")) == "workspaceblobstore"
    assert (
        kept(PipelineData("x", datastore=files_store))
        == kept(PipelineData("x", "workspacefilestore"))
        == "workspacefilestore"
    )
    assert kept(PipelineData("x"), default_datastore=files_store) == "workspacefilestore"
    assert kept(OutputFileDatasetConfig("x", destination=files_store)) == "workspacefilestore"
    with pytest.raises(
        ConfigError, match="step 'a.py': workspace 'tests' has no datastore 'lake'; it has: 'workspaceb"
    ):
        kept(PipelineData("x", "lake"))
    database = Datastore.register_sql(workspace, "crm", "sqlite:///x.db")
    with pytest.raises(
        PipelineError, match=r"cannot be kept in datastore 'crm' \(sqlite:///x.db\), which is only read"
    ):
        kept(PipelineData("x", datastore=database))
    workspace.set_default_datastore(files_store)
    assert kept(PipelineData("x")) == "workspacefilestore"


def test_things_of_another_workspace(workspace, source, tmp_path):
    other = Workspace.create("other", path=tmp_path / "other")
    store = other.get_default_datastore()
    target = ComputeTarget.create(other, "cpu", AmlCompute.provisioning_configuration())
    for options in (
        {"outputs": [PipelineData("x", store)]},
        {"inputs": [DataReference(store, "r")]},
        {"inputs": [Dataset.File.from_files((store, "x")).as_named_input("d")]},
        {"compute_target": target},
    ):
        with pytest.raises(ConfigError, match="belongs to workspace 'other'.*use one workspace"):
            spec_of(workspace, PythonScriptStep("a.py", source_directory=source, **options))


def test_environments(workspace, source):
    def environment(configuration):
        step = PythonScriptStep("a.py", "s", runconfig=configuration, source_directory=source)
        return spec_of(workspace, step).steps[0].environment

    configuration = RunConfiguration()
    configuration.environment = Environment.get(workspace, "AzureML-Tutorial")
    assert environment(configuration).name == "AzureML-Tutorial"
    configuration.environment = Environment("unregistered")
    assert environment(configuration).name == "unregistered"
    configuration.environment.version = "1.0"
    with pytest.raises(ConfigError, match=r"step 's': environment 'unregistered' .*register it: "):
        environment(configuration)
    Environment("unregistered").register(workspace)
    configuration.environment.version = "1"
    assert environment(configuration).version == "1"


def test_environment_by_reference_with_a_parameter(workspace, source):
    configuration = RunConfiguration()
    configuration.environment = Environment("e").register(workspace)
    parameter = PipelineParameter("nodes", 2)

    def compiled(**options):
        return spec_of(workspace, PythonScriptStep("a.py", runconfig=configuration, source_directory=source, **options))

    assert compiled(runconfig_pipeline_params={"NodeCount": parameter}).parameters
    configuration.environment.version = "1"
    assert compiled()
    with pytest.raises(PipelineError, match="does not go together with a PipelineParameter.*Environment.get"):
        compiled(runconfig_pipeline_params={"NodeCount": parameter})
    configuration.node_count = parameter
    with pytest.raises(PipelineError, match="does not go together with a PipelineParameter"):
        compiled()


def test_environment_variables_have_to_be_text(workspace, source):
    configuration = RunConfiguration()
    configuration.environment.environment_variables = {"A": object()}
    with pytest.raises(ParameterError, match="step 's': environment 'current': variable 'A'"):
        spec_of(workspace, PythonScriptStep("a.py", "s", runconfig=configuration, source_directory=source))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digits", "digits"), ("My pipeline", "My_pipeline"), ("a:b", "a_b"), ("äö", "pipeline"), ("x" * 300, "x" * 200)],
)
def test_given_name_becomes_a_valid_dag_id(workspace, source, name, expected):
    assert spec_of(workspace, PythonScriptStep("a.py", source_directory=source), name=name).name == expected


def test_name_made_of_the_steps(workspace, source):
    def name(*names):
        return spec_of(
            workspace, *(PythonScriptStep("a.py", n, source_directory=source) for n in names), name=None
        ).name

    assert name("a", "b") == name("a", "b") != name("a", "c")
    assert name("a").startswith("pipeline-")


def test_registration_travels(workspace, source):
    data = PipelineData("x")
    data.as_dataset().register("made")
    output = OutputFileDatasetConfig("y").register_on_complete("other", tags={"a": "1"})
    step = PythonScriptStep("a.py", outputs=[data, output], source_directory=source)
    registrations = [port.register_as for port in spec_of(workspace, step).steps[0].outputs]
    assert [(each.name, each.tags) for each in registrations] == [("made", {}), ("other", {"a": "1"})]


def test_registered_dataset(workspace, store, source):
    store._store.write_bytes("in/x", b"1")
    dataset = Dataset.File.from_files((store, "in")).register(workspace, "d")
    port = (
        spec_of(workspace, PythonScriptStep("a.py", inputs=[dataset.as_named_input("x")], source_directory=source))
        .steps[0]
        .inputs[0]
    )
    assert (port.label, port.dataset_id, port.mode) == ("dataset d v1", dataset.id, "direct")


def test_shell_lines(workspace, source):
    mid = PipelineData("mid")
    spec = spec_of(
        workspace,
        CommandStep("echo $HOME > x", "line", source_directory=source),
        CommandStep(["python a.py --out", mid], "pieces", source_directory=source),
        CommandStep(["echo", "$HOME; rm x"], "words", source_directory=source),
    )
    assert [(step.name, step.shell) for step in spec.steps] == [("line", True), ("pieces", True), ("words", False)]
    assert spec.steps[1].arguments[1].kind == "output"


def test_code_that_changed_between_two_submits(workspace, source):
    pipeline = Pipeline(workspace, [PythonScriptStep("a.py", source_directory=source)])
    before = compile_pipeline(pipeline).spec
    (source / "a.py").write_text("changed")
    after = compile_pipeline(pipeline).spec
    assert before.steps[0].code != after.steps[0].code
    shutil.rmtree(source)
    with pytest.raises(PipelineError, match="does not exist"):
        compile_pipeline(pipeline)


@pytest.mark.parametrize("options", [{"name": "step \ud800"}, {"version": "\udc80"}, {"params": {"a": "\ud800"}}])
def test_text_that_cannot_be_written_down_is_the_users_mistake(workspace, source, options):
    with pytest.raises(ParameterError, match="pipeline 'p': a name or an argument is not valid Unicode"):
        spec_of(workspace, PythonScriptStep("a.py", source_directory=source, **options))
