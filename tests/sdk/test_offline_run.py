from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ConfigError, MissingDataError, NotSupportedError, ParameterError
from airflow_mlpipe.sdk.offline_run import _OfflineRun
from airflow_mlpipe.sdk.run import Run


@pytest.fixture
def run(monkeypatch):
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return Run.get_context()


def test_outside_a_step_there_is_an_offline_run(run):
    assert type(run) is _OfflineRun
    assert isinstance(run, Run)
    assert run.id.startswith("OfflineRun")


def test_it_can_be_refused(monkeypatch):
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    with pytest.raises(ConfigError, match="does not run as a step"):
        Run.get_context(allow_offline=False)


def test_log_prints_and_can_be_read_back(run, capsys):
    run.log("accuracy", 0.5)
    run.log("accuracy", 0.75)
    run.log_row("row", x=1)
    run.tag("kind", "test")
    assert "Attempted to log scalar metric accuracy:\n0.5" in capsys.readouterr().out
    assert run.get_metrics() == {"accuracy": [0.5, 0.75], "row": {"x": [1]}}
    assert run.tags == {"kind": "test"}


def test_its_parent_can_be_logged_to_and_has_none(run, capsys):
    run.parent.log("accuracy", 1)
    assert run.parent.get_metrics() == {"accuracy": 1}
    assert run.parent.parent is None
    capsys.readouterr()


def test_the_workspace_is_refused_in_a_way_scripts_for_v1_can_catch(run):
    assert not hasattr(run, "experiment")
    with pytest.raises(NotSupportedError, match=r"use Workspace\.from_config\(\)"):
        _ = run.experiment


def test_complete_flush_and_fail_do_not_stop_a_script(run, capsys):
    run.complete()
    run.flush()
    run.fail("no good")
    assert "no good" in capsys.readouterr().out


def test_a_property_cannot_be_changed(run, capsys):
    run.add_properties({"data": "v1"})
    run.add_properties({"data": "v1"})
    with pytest.raises(ParameterError, match="property 'data' is 'v1' already"):
        run.add_properties({"data": "v2"})
    assert run.properties == {"data": "v1"}
    capsys.readouterr()


def test_an_image_is_kept_from_a_plot_or_a_file(run, tmp_path, capsys):
    class Plot:
        def savefig(self, target):
            target.write(b"picture")

    (tmp_path / "p.jpg").write_bytes(b"jpg")
    run.log_image("drawn", plot=Plot())
    run.log_image("filed", path=tmp_path / "p.jpg")
    assert run.get_metrics() == {"drawn": "drawn.png", "filed": "filed.jpg"}
    assert run.get_file_names() == ["drawn.png", "filed.jpg"]
    with pytest.raises(ParameterError, match="either path= or plot="):
        run.log_image("none")
    capsys.readouterr()


def test_an_upload_of_nothing_names_it(run, tmp_path):
    with pytest.raises(MissingDataError, match=r"there is no file '.*absent\.pkl'"):
        run.upload_file("outputs/model.pkl", tmp_path / "absent.pkl")
    with pytest.raises(ParameterError, match="leaves its datastore"):
        (tmp_path / "x").write_text("")
        run.upload_file("../x", tmp_path / "x")


def test_a_folder_is_uploaded_file_by_file(run, tmp_path, capsys):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a").write_text("a")
    (tmp_path / "d" / "sub" / "b").write_text("b")
    run.upload_folder("outputs/d", tmp_path / "d")
    assert run.get_file_names() == ["outputs/d/a", "outputs/d/sub/b"]
    run.download_file("outputs/d/a", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "a"
    capsys.readouterr()
