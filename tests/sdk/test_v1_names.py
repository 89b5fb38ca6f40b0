"""v1's names that scripts give, catch or print, without which they do not begin."""

from __future__ import annotations

import pytest

import airflow_mlpipe
from airflow_mlpipe import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    ActivityFailedException,
    AzureCliAuthentication,
    Dataset,
    Datastore,
    Environment,
    InteractiveLoginAuthentication,
    Model,
    ModelNotFoundException,
    MsiAuthentication,
    Run,
    RunEnvironmentException,
    ServiceException,
    ServicePrincipalAuthentication,
    TrainingException,
    UserErrorException,
    WebserviceException,
    Workspace,
    WorkspaceException,
)
from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.sdk.wait import RunFailedError


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    return Workspace.create("tests", path=tmp_path)


def test_the_version():
    assert airflow_mlpipe.__version__ == airflow_mlpipe.VERSION


@pytest.mark.parametrize(
    "auth",
    [
        InteractiveLoginAuthentication(tenant_id="t", force=True),
        ServicePrincipalAuthentication("t", "id", "hunter2"),
        AzureCliAuthentication(),
        MsiAuthentication(),
    ],
)
def test_a_workspace_takes_any_way_to_log_in(ws, auth):
    assert Workspace.get("tests", auth=auth) == ws
    assert "hunter2" not in repr(vars(auth)) + repr(auth)
    with pytest.raises(NotSupportedError, match=r"_header\(\) is not supported: .*Experiment\.submit"):
        auth.get_authentication_header()
    with pytest.raises(NotSupportedError, match=r"get_token\(\) is not supported: "):
        auth.get_token()


def test_scripts_catch_what_is_not_there(ws):
    for missing in (lambda: Datastore.get(ws, "x"), lambda: Dataset.get_by_name(ws, "x"), lambda: ws.environments["x"]):
        with pytest.raises(UserErrorException):
            missing()
    with pytest.raises(WorkspaceException):
        Workspace.get("other")
    with pytest.raises(WebserviceException):
        Model(ws, "x")
    for use in (lambda: Model(ws, "x"), lambda: Model.get_model_path("x", _workspace=ws)):
        with pytest.raises(ModelNotFoundException):
            use()
    with pytest.raises(ServiceException):
        Run.get(ws, "x")
    with pytest.raises(RunEnvironmentException):
        Run.get_context(allow_offline=False)
    assert all(issubclass(RunFailedError, kind) for kind in (ActivityFailedException, TrainingException))


@pytest.mark.parametrize("image", [DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE])
def test_the_default_image_is_no_image_of_its_own(image):
    plain, named = Environment("a"), Environment("a")
    named.docker.base_image = image
    assert named.to_spec() == plain.to_spec()
    named.docker.base_dockerfile = f"FROM {image}"
    assert named.to_spec().dockerfile == f"FROM {image}"


def test_what_stands_in_for_a_run_has_its_name():
    assert isinstance(Run.get_context(), airflow_mlpipe._OfflineRun)
