"""Scripts as users of SDK v1 wrote them, with only their import lines changed, on embedded Airflow.

They follow the public samples: their idioms, their order of arguments, the names and words they read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from settings import change_settings
from wholeness import assert_whole

from airflow_mlpipe import Workspace

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

IMPORTS = """
import os, shutil, time
from pathlib import Path
from airflow_mlpipe import (
    AmlCompute, CommandStep, ComputeTarget, ComputeTargetException, CondaDependencies, DataReference, Dataset,
    DatasetConsumptionConfig, Datastore, Environment, Experiment, Model, OutputFileDatasetConfig, Pipeline,
    PipelineData, PipelineParameter, PipelineRun, PythonScriptStep, Run, RunConfiguration, StepSequence, Workspace,
)
"""

DIABETES = "PatientID,Pregnancies,Age,Diabetic\n" + "".join(
    f"{n},{n % 5},{20 + n},{int(n % 3 == 0)}\n" for n in range(60)
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("v1")
    Workspace.create("v1", subscription_id="sub", resource_group="group", location="westeurope", path=folder)
    # Its scripts need nothing that is not here; building environments is tested where nothing else is.
    change_settings(folder, environments="current")
    (folder / "data").mkdir()
    (folder / "data" / "diabetes.csv").write_text(DIABETES)
    (folder / "data" / "diabetes2.csv").write_text(DIABETES)
    yield folder
    assert_whole(folder / ".mlpipe")


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def files(**sources: str) -> None:
    """Write source files; ``train__fit`` is ``train/fit.py``."""
    for name, text in sources.items():
        path = Path(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def script(text: str) -> dict[str, Any]:
    """Run a script and return its names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(IMPORTS + textwrap.dedent(text), "<script>", "exec"), names)  # noqa: S102
    return names


def test_getting_started(capsys: pytest.CaptureFixture[str]) -> None:
    files(
        getting__train="print('In train.py'); print('As a data scientist, this is where I use my training code.')",
        getting__compare="print('In compare.py')",
        getting__extract="print('In extract.py')",
    )
    names = script("""
        ws = Workspace.from_config()
        print(ws.name, ws.resource_group, ws.location, ws.subscription_id, sep='\\n')
        def_file_store = Datastore(ws, "workspacefilestore")
        def_blob_store = ws.get_default_datastore()
        def_blob_store.upload_files(["./data/diabetes.csv"], target_path="20newsgroups", overwrite=True)

        aml_compute_target = "cpu-cluster"
        try:
            aml_compute = AmlCompute(ws, aml_compute_target)
            print("found existing compute target.")
        except ComputeTargetException:
            print("creating new compute target")
            provisioning_config = AmlCompute.provisioning_configuration(
                vm_size="STANDARD_D2_V2", min_nodes=1, max_nodes=4)
            aml_compute = ComputeTarget.create(ws, aml_compute_target, provisioning_config)
            aml_compute.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
        print(aml_compute.get_status().serialize())

        step1 = PythonScriptStep(name="train_step", script_name="train.py", compute_target=aml_compute,
                                 source_directory="getting", allow_reuse=True)
        step2 = PythonScriptStep(name="compare_step", script_name="compare.py", compute_target=aml_compute,
                                 source_directory="getting")
        step3 = PythonScriptStep(name="extract_step", script_name="extract.py", compute_target=aml_compute,
                                 source_directory="getting")
        steps = [step1, step2, step3]
        pipeline1 = Pipeline(workspace=ws, steps=steps)
        print("Pipeline is built")
        pipeline1._set_experiment_name
        pipeline1.validate()
        pipeline_run1 = Experiment(ws, 'Hello_World1').submit(pipeline1, regenerate_outputs=False)
        print("Pipeline is submitted for execution")
        while pipeline_run1.get_status() not in ("Finished", "Failed", "Canceled"):
            time.sleep(0.1)
        pipeline_run1.wait_for_completion(show_output=True)

        step_runs = pipeline_run1.get_children()
        for step_run in step_runs:
            status = step_run.get_status()
            print('Script:', step_run.name, 'status:', status)
            if status == "Failed":
                print(step_run.get_job_log())
        train_step = pipeline_run1.find_step_run('train_step')
        if train_step:
            train_step_obj = train_step[0]
            train_step_obj.get_details_with_logs()
        log = train_step_obj.get_stdout_log()
        first = next(pipeline_run1.get_children())

        step2.run_after(step1)
        step3.run_after(step2)
        pipeline2 = Pipeline(workspace=ws, steps=[step3], description="in sequence")
        pipeline2.validate()
        pipeline_run2 = pipeline2.submit('Hello_World1')
        pipeline_run2.wait_for_completion()
        sequence = Pipeline(ws, steps=StepSequence(steps=[step1, step2, step3]))
        """)
    run, again = names["pipeline_run1"], names["pipeline_run2"]
    assert run.get_status() == "Finished"
    assert run.status == run.get_details()["status"] == "Completed"
    assert "In train.py" in names["log"]
    assert names["first"].name == "train_step"
    printed = capsys.readouterr().out
    for line in (
        "Uploaded",
        "Created step train_step [",
        "], (This step will run and generate new outputs)",
        "], (This step is eligible to reuse a previous run's output)",
        f"Submitted PipelineRun {run.id}",
        f"Submitted PipelineRun {again.id}",
        f"PipelineRunId: {run.id}",
        "StepRun( train_step ) Status: Finished",
        "PipelineRun Execution Summary",
        "PipelineRun Status: Finished",
        "Script: train_step status: Finished",
    ):
        assert line in printed
    assert len(again.get_steps()) == 3
    assert all(step._is_reused for step in again.get_steps())
    assert {"azureml.reusedrunid", "azureml.reusednodeid", "azureml.reusedpipeline"} <= set(
        again.find_step_run("train_step")[0].properties
    )


def test_diabetes_prepared_trained_and_registered() -> None:
    files(
        diabetes__prep="""
            import argparse, os
            from airflow_mlpipe import Run

            parser = argparse.ArgumentParser()
            parser.add_argument("--input-data", type=str, dest='raw_dataset_id', help='raw dataset')
            parser.add_argument('--prepped-data', type=str, dest='prepped_data', default='prepped_data')
            args = parser.parse_args()
            save_folder = args.prepped_data
            run = Run.get_context()
            print("Loading Data...")
            diabetes = run.input_datasets['raw_data'].to_pandas_dataframe()
            row_count = (len(diabetes))
            run.log('raw_rows', row_count)
            diabetes = diabetes.dropna()
            run.log('processed_rows', len(diabetes))
            os.makedirs(save_folder, exist_ok=True)
            diabetes.to_csv(os.path.join(save_folder, 'data.csv'), index=False, header=True)
            run.complete()
            """,
        diabetes__train="""
            import argparse, os, pickle
            from airflow_mlpipe import Model, Run
            import pandas as pd, numpy as np

            parser = argparse.ArgumentParser()
            parser.add_argument("--training-data", type=str, dest='training_data', help='training data')
            parser.add_argument('--reg-rate', type=float, dest='reg_rate', default=0.01)
            args = parser.parse_args()
            run = Run.get_context()
            diabetes = pd.read_csv(os.path.join(args.training_data, 'data.csv'))
            accuracy = np.float64(diabetes['Diabetic'].mean())
            run.log('Accuracy', accuracy)
            run.log('Regularization Rate', np.float64(args.reg_rate))
            os.makedirs('outputs', exist_ok=True)
            model_file = os.path.join('outputs', 'diabetes_model.pkl')
            pickle.dump(accuracy, open(model_file, 'wb'))
            Model.register(workspace=run.experiment.workspace, model_path=model_file, model_name='diabetes_model',
                           tags={'Training context': 'Pipeline'}, properties={'Accuracy': accuracy},
                           datasets=[(Run.Scenario.TRAINING if hasattr(Run, 'Scenario') else 'training', None)])
            run.complete()
            """,
    )
    names = script("""
        ws = Workspace.from_config()
        default_ds = ws.get_default_datastore()
        for ds_name in ws.datastores:
            print(ds_name, "- Default =", ds_name == default_ds.name)
        if 'diabetes dataset' not in ws.datasets:
            default_ds.upload_files(files=['./data/diabetes.csv', './data/diabetes2.csv'],
                                    target_path='diabetes-data/', overwrite=True, show_progress=True)
            tab_data_set = Dataset.Tabular.from_delimited_files(path=(default_ds, 'diabetes-data/*.csv'))
            try:
                tab_data_set = tab_data_set.register(workspace=ws, name='diabetes dataset',
                    description='diabetes data', tags={'format': 'CSV'}, create_new_version=True)
                print('Dataset registered.')
            except Exception as ex:
                print(ex)
                raise
        else:
            print('Dataset already registered.')
        for dataset_name in list(ws.datasets.keys()):
            dataset = Dataset.get_by_name(ws, dataset_name)
            print("\\t", dataset.name, 'version', dataset.version)

        diabetes_env = Environment("diabetes-pipeline-env")
        diabetes_env.python.user_managed_dependencies = False
        diabetes_env.docker.enabled = True
        diabetes_packages = CondaDependencies.create(conda_packages=['scikit-learn', 'ipykernel', 'pandas', 'pip'],
                                                     pip_packages=['azureml-defaults', 'azureml-dataprep[pandas]'])
        diabetes_env.python.conda_dependencies = diabetes_packages
        diabetes_env.environment_variables = {'MODEL_KIND': 'mean'}
        diabetes_env.register(workspace=ws)
        registered_env = Environment.get(ws, 'diabetes-pipeline-env')
        pipeline_run_config = RunConfiguration()
        pipeline_run_config.environment = registered_env

        diabetes_ds = ws.datasets.get("diabetes dataset")
        prepped_data_folder = PipelineData("prepped_data_folder", datastore=ws.get_default_datastore())
        reg_param = PipelineParameter(name='reg_rate', default_value=0.01)
        prep_step = PythonScriptStep(name="Prepare Data", source_directory="diabetes", script_name="prep.py",
            arguments=['--input-data', diabetes_ds.as_named_input('raw_data'), '--prepped-data', prepped_data_folder],
            outputs=[prepped_data_folder], runconfig=pipeline_run_config, allow_reuse=True)
        train_step = PythonScriptStep(name="Train and Register Model", source_directory="diabetes",
            script_name="train.py", arguments=['--training-data', prepped_data_folder, '--reg-rate', reg_param],
            inputs=[prepped_data_folder], runconfig=pipeline_run_config, allow_reuse=True)
        pipeline = Pipeline(workspace=ws, steps=[prep_step, train_step])
        experiment = Experiment(workspace=ws, name='mslearn-diabetes-pipeline')
        pipeline_run = experiment.submit(pipeline, regenerate_outputs=True)
        pipeline_run.wait_for_completion(show_output=True)
        for run in pipeline_run.get_children():
            print(run.name, ':')
            metrics = run.get_metrics()
            for metric_name in metrics:
                print('\\t', metric_name, ":", metrics[metric_name])
        for model in Model.list(ws):
            print(model.name, 'version:', model.version)
            for tag_name in model.tags:
                print('\\t', tag_name, ':', model.tags[tag_name])
            for prop_name in model.properties:
                print('\\t', prop_name, ':', model.properties[prop_name])

        second = experiment.submit(pipeline, pipeline_parameters={"reg_rate": 0.1})
        second.wait_for_completion()
        """)
    prepare, train = names["second"].get_steps()
    assert prepare.is_reused
    assert not train.is_reused
    assert train.get_metrics()["Regularization Rate"] == 0.1
    assert prepare.get_metrics("raw_rows") == {"raw_rows": 120}
    newest = names["ws"].models["diabetes_model"]
    assert (newest.version, newest.tags, newest.run_id) == (2, {"Training context": "Pipeline"}, train.id)
    assert train.get_metrics(name="Accuracy")["Accuracy"] == float(newest.properties["Accuracy"])


def test_data_references_uploads_and_downloads() -> None:
    files(
        refs__prep="""
            import os, sys
            mounted, out = os.environ['AZUREML_DATAREFERENCE_input_data'], os.environ['AZUREML_DATAREFERENCE_prepared']
            assert sys.argv[1:] == ['--in', mounted, '--out', out, '--n', '3', '--rate', '0.5', '--path', 'a/b']
            assert os.path.isdir(mounted) and '/workspaceblobstore/' in mounted
            os.makedirs(out, exist_ok=True)
            for name in os.listdir(mounted):
                open(os.path.join(out, name), 'w').write(open(os.path.join(mounted, name)).read().upper())
            """,
        refs__score="""
            import os, sys
            folder, file = sys.argv[1:3]
            assert folder == os.environ['AZUREML_DATAREFERENCE_prepared_in'], folder
            assert os.environ['AZUREML_DATAREFERENCE_scores_out'] == file
            assert os.environ['AML_PARAMETER_shape'] == 'round'
            open(os.path.join(folder, 'scratch'), 'w').close()
            with open(file, 'w') as f:
                f.write(''.join(sorted(os.listdir(folder))))
            """,
    )
    names = script("""
        ws = Workspace.from_config()
        blob = Datastore.get(ws, datastore_name='workspaceblobstore')
        print("Blobstore's name:", blob.name, blob.container_name, blob.datastore_type)
        os.makedirs('csv', exist_ok=True)
        for name in ('a.csv', 'b.csv'):
            Path('csv', name).write_text(name)
        returned = blob.upload(src_dir='csv', target_path='refs/csv', overwrite=True, show_progress=True)
        assert isinstance(returned, DataReference), returned
        input_data = DataReference(datastore=blob, data_reference_name='input_data', path_on_datastore='refs/csv')
        prepared = PipelineData('prepared', datastore=blob, is_directory=True)
        scores = PipelineData(name='scores', datastore=blob, output_name='scores_out', output_mode='mount',
                              pipeline_output_name='final_scores')
        shape = PipelineParameter('shape', default_value='square')
        prep = PythonScriptStep(script_name='prep.py', arguments=['--in', input_data, '--out', prepared, '--n', 3,
                                '--rate', 0.5, '--path', Path('a/b')], inputs=[input_data], outputs=[prepared],
                                source_directory='refs', compute_target='local')
        downloaded = prepared.as_download(input_name='prepared_in')
        score = PythonScriptStep(script_name='score.py', arguments=[downloaded, scores], inputs=[downloaded],
                                 outputs=[scores], params={'shape': shape}, source_directory=Path('refs'))
        pipeline = Pipeline(workspace=ws, steps=[score], default_datastore=blob)
        run = Experiment(ws, 'refs').submit(pipeline, pipeline_parameters={'shape': 'round'})
        assert run.wait_for_completion(show_output=False) == 'Finished'

        output = run.find_step_run('prep.py')[0].get_output_data('prepared')
        print(output.datastore_name, output.path_on_datastore, output._path_on_datastore)
        output.download(local_path='downloaded', show_progress=True)
        found = [os.path.join(root, f) for root, dirs, names in os.walk('downloaded') for f in names]
        port = run.find_step_run('score.py')[0].get_outputs()['scores_out'].get_port_data_reference()
        final = run.get_pipeline_output('final_scores')
        final.download('.', show_progress=True)
        text = Path(final._path_on_datastore).read_text()
        blob.download(target_path='back', prefix='refs/csv', overwrite=True, show_progress=False)
        """)
    step = names["run"].find_step_run("prep.py")[0]
    assert sorted(names["found"]) == [f"downloaded/azureml/{step.id}/prepared/{name}" for name in ("a.csv", "b.csv")]
    assert names["text"] == "a.csvb.csvscratch"
    assert names["port"].path_on_datastore == names["final"].path_on_datastore
    assert Path("back/refs/csv/a.csv").read_text() == "a.csv"


def test_datasets_and_file_outputs() -> None:
    files(
        batch__make="""
            import argparse, os
            from airflow_mlpipe import Run
            parser = argparse.ArgumentParser()
            parser.add_argument('--images'); parser.add_argument('--one'); parser.add_argument('--ds')
            parser.add_argument('--output_path', dest='output', required=True)
            args, unknown = parser.parse_known_args()
            run = Run.get_context()
            assert args.images == run.input_datasets['images'] == os.environ['images']
            assert os.path.isfile(args.one), args.one
            assert run.input_datasets['table'].id == args.ds
            assert args.output == os.environ['processed'] == str(run.output_datasets['processed'])
            assert os.path.isdir(args.output)
            for name in os.listdir(args.images):
                open(os.path.join(args.output, name + '.txt'), 'w').write('1')
            """,
        batch__use="""
            import sys, os
            from airflow_mlpipe import Dataset, Run
            run = Run.get_context(allow_offline=False)
            ws = run.experiment.workspace
            frame = Dataset.get_by_name(ws, name='table', version='latest').to_pandas_dataframe()
            by_id = Dataset.get_by_id(ws, id=Dataset.get_by_name(ws, 'table').id)
            run.log('rows', len(frame))
            run.log('files', len(os.listdir(sys.argv[1])))
            run.parent.log('all', len(by_id.to_pandas_dataframe()))
            """,
    )
    names = script("""
        ws = Workspace.from_config()
        ds = ws.get_default_datastore()
        for name in ('1.png', '2.png'):
            os.makedirs('images', exist_ok=True)
            Path('images', name).write_text(name)
        ds.upload('./images', target_path='images', overwrite=True)
        ds.upload_files(['./data/diabetes.csv'], target_path='table', overwrite=True)
        image_ds = Dataset.File.from_files(path=(ds, 'images/'), validate=True)
        image_ds = image_ds.register(workspace=ws, name='image files', create_new_version=True)
        one = Dataset.File.from_files([(ds, 'images/1.png')])
        table = Dataset.Tabular.from_delimited_files([(ds, 'table/diabetes.csv')], validate=False,
                                                     infer_column_types=True).register(ws, 'table')
        assert Dataset.get_by_name(ws, 'table', version=1).name == 'table'
        processed = OutputFileDatasetConfig(name='processed', destination=(ds, 'out/{run-id}/{output-name}'))
        processed = processed.register_on_complete(name='processed files', description='from a step')
        images_in = DatasetConsumptionConfig('images', image_ds).as_mount(path_on_compute='/tmp/v1-images')
        make = PythonScriptStep(name='make', script_name='make.py', source_directory='batch',
                                arguments=['--images', images_in, '--one', one.as_named_input('one').as_download(),
                                           '--ds', table.as_named_input('table'), '--output_path', processed])
        use = PythonScriptStep(name='use', script_name='use.py', source_directory='batch',
                               arguments=[processed.as_input(name='processed_in').as_mount()])
        pipeline = Pipeline(ws, [make, use])
        batch_run = Experiment(ws, 'batch').submit(pipeline)
        batch_run.wait_for_completion(show_output=True)
        copied = ws.datasets['processed files'].download(target_path='copied', overwrite=True)
        """)
    run = names["batch_run"]
    assert run.find_step_run("use")[0].get_metrics() == {"rows": 60, "files": 2}
    assert run.get_metrics() == {"all": 60}
    assert sorted(Path(path).name for path in names["copied"]) == ["1.png.txt", "2.png.txt"]
    assert Path(names["ds"]._store.path_of(f"out/{run.find_step_run('make')[0].id}/processed")).is_dir()


def test_the_evaluate_and_register_template() -> None:
    files(
        mlops__train="""
            import os
            from airflow_mlpipe import Run
            run = Run.get_context()
            if run.id.startswith('OfflineRun'):
                raise SystemExit('offline')
            run.log('mse', 0.25)
            run.parent.log(name='mse', value=0.25)
            run.log_list('losses', [3, 2, 1])
            run.log_row('epoch', loss=1, acc=2)
            run.tag('run_type', value='train')
            run.parent.tag('run_type', value='train')
            open('model.pkl', 'w').write('weights')
            run.upload_file(name='outputs/model.pkl', path_or_stream='model.pkl')
            print('Files:', run.get_file_names(), run.get_tags(), run.properties['azureml.pipelinerunid'])
            run.complete()
            """,
        mlops__util__model_helper="""
            from airflow_mlpipe import Model

            def get_model(ws, name):
                models = Model.list(ws, name=name, latest=True)
                return models[0] if models else None
            """,
        mlops__evaluate__evaluate_model="""
            import argparse
            from airflow_mlpipe import PipelineRun, Run
            from util.model_helper import get_model
            parser = argparse.ArgumentParser()
            parser.add_argument('--model_name', type=str)
            parser.add_argument('--allow_run_cancel', type=str, default='true')
            args = parser.parse_args()
            run = Run.get_context()
            exp, ws, run_id = run.experiment, run.experiment.workspace, run.parent.id
            pipeline_run = PipelineRun(run.experiment, run.parent.id)
            training_run = pipeline_run.find_step_run('Train Model')
            new = training_run[0].get_metrics()['mse']
            assert run.parent.get_metrics().get('mse') == new == 0.25
            assert list(run.parent.get_children())[0].name == 'Train Model'
            assert run.parent.get_tags()['run_type'] == 'train'
            model = get_model(ws, args.model_name)
            if model is not None and float(model.tags['mse']) <= new:
                print('New trained model metric is not better.')
                if args.allow_run_cancel == 'true':
                    run.parent.cancel()
            else:
                run.parent.add_properties({'winner': 'new'})
            """,
        mlops__register="""
            import sys
            from airflow_mlpipe import Model, Run
            run = Run.get_context()
            ws = run.experiment.workspace
            parent_tags = run.parent.get_tags()
            training = run.parent.find_step_run('Train Model')[0]
            training.download_file(name='outputs/model.pkl', output_file_path='outputs/model.pkl')
            model = run.register_model(model_name=sys.argv[1], model_path='outputs/model.pkl',
                                       tags={'mse': run.parent.get_metrics()['mse'], **parent_tags},
                                       properties={'run_id': run.parent.id})
            path = Model.get_model_path(sys.argv[1], version=model.version, _workspace=ws)
            assert open(path).read() == open(Model.get_model_path(model_name=sys.argv[1])).read() == 'weights'
            """,
    )
    names = script("""
        ws = Workspace.get(name='v1', subscription_id='sub', resource_group='group')
        model_name = PipelineParameter(name='model_name', default_value='sklearn_regression_model.pkl')
        common = dict(source_directory='mlops', allow_reuse=False, runconfig=RunConfiguration())
        train = PythonScriptStep(name='Train Model', script_name='train.py', **common)
        evaluate = PythonScriptStep(name='Evaluate Model', script_name='evaluate/evaluate_model.py',
                                    arguments=['--model_name', model_name, '--allow_run_cancel', 'true'], **common)
        register = PythonScriptStep(name='Register Model', script_name='register.py',
                                    arguments=[model_name], **common)
        evaluate.run_after(train)
        register.run_after(evaluate)
        pipeline = Pipeline(workspace=ws, steps=[train, evaluate, register])
        pipeline.validate()
        exp = Experiment(workspace=ws, name='mlops')
        first = exp.submit(pipeline, tags={'build': 1}, pipeline_parameters={'model_name': 'mse_model'})
        first.wait_for_completion(show_output=False)
        second = exp.submit(pipeline, tags={'build': 2}, pipeline_parameters={'model_name': 'mse_model'})
        status = second.wait_for_completion(show_output=False, raise_on_error=False)
        tagged = [run.id for run in exp.get_runs(tags={'build': '1'})]
        newest = next(exp.get_runs())
        """)
    first, second = names["first"], names["second"]
    assert first.get_status() == "Finished"
    assert first.get_properties()["winner"] == "new"
    assert first.tags == {"build": "1", "run_type": "train"}
    train = first.find_step_run("Train Model")[0]
    assert train.get_metrics() == {"mse": 0.25, "losses": [3, 2, 1], "epoch": {"loss": [1], "acc": [2]}}
    assert "'outputs/model.pkl'" in train.get_stdout_log()
    assert first.id in train.get_stdout_log()
    # The template's own way to stop: the step that sees no better model cancels the run it belongs to.
    assert (names["status"], second.status) == ("Canceled", "Canceled")
    assert second.find_step_run("Register Model")[0].status == "Canceled"
    assert names["tagged"] == [first.id]
    assert names["newest"].id == second.id
    assert [run.name for run in first.get_children(status="Completed")] == [
        "Train Model",
        "Evaluate Model",
        "Register Model",
    ]
    assert [run.id for run in first.get_children(tags={"run_type": "train"})] == [train.id]
    assert [model.version for model in names["Model"].list(names["ws"], name="mse_model", tags=["mse"])] == [1]


def test_fan_out_in_order_with_parameters() -> None:
    files(
        fan__part="""
            import argparse, os
            parser = argparse.ArgumentParser()
            parser.add_argument('--depth', type=int); parser.add_argument('--verbose'); parser.add_argument('--out')
            args = parser.parse_args()
            os.makedirs(args.out, exist_ok=True)
            open(os.path.join(args.out, 'score.txt'), 'w').write(f'{args.depth} {args.verbose}')
            """,
        fan__gather="""
            import sys
            from airflow_mlpipe import Run
            scores = [open(f'{folder}/score.txt').read() for folder in sys.argv[1:]]
            Run.get_context().log_list('scores', scores)
            """,
    )
    names = script("""
        ws = Workspace.from_config()
        store = ws.get_default_datastore()
        depth = PipelineParameter(name='depth', default_value=2)
        verbose = PipelineParameter(name='verbose', default_value=False)
        outs = [PipelineData(f'out_{n}', datastore=store) for n in range(3)]
        parts = [PythonScriptStep(name='part', script_name='part.py', source_directory='fan', outputs=[out],
                                  arguments=['--depth', depth, '--verbose', verbose, '--out', out]) for out in outs]
        gather = PythonScriptStep(name='gather', script_name='gather.py', source_directory='fan', inputs=outs,
                                  arguments=outs)
        command = CommandStep(name='list', command='echo "$AML_PARAMETER_depth" files; ls > outputs/listing.txt',
                              params={'depth': depth}, source_directory='fan')
        pipeline = Pipeline(ws, steps=StepSequence(steps=[parts, gather, command]))
        run = Experiment(ws, 'fan').submit(pipeline, pipeline_parameters={'depth': 5, 'verbose': True},
                                           continue_on_step_failure=True)
        run.wait_for_completion(show_output=False, timeout_seconds=100)
        """)
    run = names["run"]
    assert len(run.find_step_run("part")) == 3
    assert run.find_step_run("gather")[0].get_metrics()["scores"] == ["5 True"] * 3
    listing = run.find_step_run("list")[0]
    assert listing.get_stdout_log() == "5 files\n"
    assert "outputs/listing.txt" in listing.get_file_names()
    assert run.find_step_run("no such step") == []


def test_a_failure_is_read_and_the_workspace_is_looked_through(capsys: pytest.CaptureFixture[str]) -> None:
    files(
        bad__explode="import sys\nprint('before')\nraise ValueError('no such column: Age')",
        bad__after="print('after')",
    )
    names = script("""
        ws = Workspace(subscription_id='sub', resource_group='group', workspace_name='v1')
        explode = PythonScriptStep(name='explode', script_name='explode.py', source_directory='bad')
        after = PythonScriptStep(name='after', script_name='after.py', source_directory='bad')
        after.run_after(explode)
        run = Experiment(ws, 'bad').submit(Pipeline(ws, [after]))
        try:
            run.wait_for_completion(show_output=True)
            raised = None
        except Exception as error:
            raised = error
        status = run.wait_for_completion(show_output=False, raise_on_error=False)
        while run.get_status() in ['NotStarted', 'Queued', 'Running']:
            time.sleep(1)
        for step in run.get_steps():
            if step.get_status() == 'Failed':
                log = step.get_stderr_log()
                details = step.get_details_with_logs()
        same = ws.get_run(run.id)
        details_of_ws = ws.get_details()
        experiments = list(ws.experiments)
        failed = [r.id for r in Experiment(ws, 'bad').get_runs() if r.get_status() == 'Failed']
        """)
    run = names["run"]
    assert (names["status"], run.status, run.get_details()["status"]) == ("Failed", "Failed", "Failed")
    assert "no such column: Age" in str(names["raised"])
    assert "ValueError: no such column: Age" in names["log"]
    assert names["details"]["error"]["error"]["message"]
    assert any("before" in text for text in names["details"]["logFiles"].values())
    assert "StepRun( explode ) Status: Failed" in capsys.readouterr().out
    assert (type(names["same"]).__name__, names["same"].id) == ("PipelineRun", run.id)
    assert (names["details_of_ws"]["name"], names["details_of_ws"]["location"]) == ("v1", "westeurope")
    assert "bad" in names["experiments"]
    assert names["failed"] == [run.id]
