"""Calls to Airflow's REST API that do not go well at first, or at all."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_mlpipe.engine.rest import AirflowApi, Login
from airflow_mlpipe.errors import NotFoundError, PermissionDeniedError, ServiceError, UnreachableError

pytestmark = pytest.mark.airflow

Answer = httpx.Response | Exception


def api_of(*answers: Answer, user: str = "u") -> tuple[AirflowApi, list[httpx.Request]]:
    """An API whose server gives these answers, the last one for ever, and a token to whoever asks."""
    left, asked = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": f"t{len(asked)}"})
        asked.append(request)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    api = AirflowApi("http://h:1/", Login(user, "secret", "look there"), advice="start it")
    api.__dict__["_client"] = httpx.Client(base_url=api.url, transport=httpx.MockTransport(handle))
    return api, asked


def detail(status: int, text: object) -> httpx.Response:
    return httpx.Response(status, json={"detail": text})


@pytest.mark.parametrize("first", [detail(500, "locked"), detail(503, "busy"), httpx.ConnectError("refused")])
def test_what_may_be_over_in_a_moment_is_asked_again(first: Answer):
    api, asked = api_of(first, httpx.Response(200, json={"a": 1}))

    assert api.get("dags", "p") == {"a": 1}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("last", "error", "text"),
    [
        (httpx.ConnectError("refused"), UnreachableError, "http://h:1 does not answer: refused; start it"),
        (detail(500, "locked"), ServiceError, r"answers 500 to GET /api/v2/dags/a%2Fb: locked"),
        (detail(404, "no such"), NotFoundError, "GET /api/v2/dags/a%2Fb: no such"),
        (detail(403, "Forbidden"), PermissionDeniedError, "does not allow GET /api/v2/dags/a%2Fb: Forbidden"),
        (httpx.Response(418, text="<html>tea</html>"), ServiceError, "answers 418 .* <html>tea"),
    ],
)
def test_what_stays_wrong_is_an_error_that_says_what_to_do(last: Answer, error, text: str):
    api, _ = api_of(last)

    with pytest.raises(error, match=text):
        api.call("GET", ["dags", "a/b"], patience_s=0.0)


def test_a_token_that_ended_is_renewed_once():
    api, asked = api_of(detail(401, "expired"), httpx.Response(200, json={}))
    api.get("dags")
    assert [request.headers["authorization"] for request in asked] == ["Bearer t0", "Bearer t1"]

    api, asked = api_of(detail(401, "no"))
    with pytest.raises(PermissionDeniedError, match="refuses the login; look there"):
        api.get("dags")
    assert len(asked) == 2


def test_a_given_token_is_not_renewed():
    api, asked = api_of(detail(401, "expired"), user="")

    with pytest.raises(PermissionDeniedError, match="look there"):
        api.get("dags")
    assert [request.headers["authorization"] for request in asked] == ["Bearer secret"]


def test_a_status_that_is_an_answer_is_no_error():
    api, asked = api_of(detail(409, "there already"))
    status, _ = api.call("POST", ["dags", "p", "dagRuns"], {"conf": {"lr": 0.1}}, also=[409])

    assert status == 409
    assert json.loads(asked[0].content) == {"conf": {"lr": 0.1}}


@pytest.mark.parametrize(("url", "trusts"), [("http://127.0.0.1:1", False), ("http://airflow.example.org", True)])
def test_a_proxy_is_for_the_world_outside(url: str, trusts: bool):
    client = AirflowApi(url, Login("u", "p", ""), advice="")._client

    assert client.trust_env is trusts
