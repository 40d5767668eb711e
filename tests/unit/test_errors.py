"""Errors at the edge: every bad request gets a problem that names the place and never repeats the input."""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.errors import STATUS_OF_CODE, Problem, from_refusal, json_path
from domain.messages import Refusal
from tests.unit.edge_app import open_client, problem_of

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as client:
        yield client


LINE = '{"sku":"A","quantity":1}'

INVALID = [
    ('{"line_items":[{"sku":"A","quantity":0}]}', "quantity_out_of_range", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":"A","quantity":1000}]}', "quantity_out_of_range", "$.line_items[0].quantity"),
    (
        f'{{"line_items":[{{"sku":"A","quantity":{10**400}}}]}}',
        "quantity_out_of_range",
        "$.line_items[0].quantity",
    ),
    (
        '{"line_items":[{"sku":"A","quantity":-9007199254740993}]}',
        "quantity_out_of_range",
        "$.line_items[0].quantity",
    ),
    ('{"line_items":[{"sku":"A","quantity":"1"}]}', "invalid_type", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":"A","quantity":true}]}', "invalid_type", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":"A","quantity":1.0}]}', "invalid_type", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":"A","quantity":null}]}', "invalid_type", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":"A"}]}', "missing", "$.line_items[0].quantity"),
    ('{"line_items":[{"sku":" A","quantity":1}]}', "invalid", "$.line_items[0].sku"),
    ('{"line_items":"A"}', "invalid_type", "$.line_items"),
    (f'{{"line_items":[{LINE}],"colour":"red"}}', "unknown_field", "$.colour"),
    (f'{{"line_items":[{LINE}],"a b\'c":1}}', "unknown_field", "$['a b\\'c']"),
    (f'{{"line_items":[{LINE}],"note":"a\\u0000b"}}', "invalid", "$.note"),
    (f'{{"line_items":[{LINE}],"no\\u0000te":"a"}}', "invalid", "$"),
    ("{}", "missing", "$.line_items"),
    ("[]", "invalid_type", "$"),
    ('"text"', "invalid_type", "$"),
    ("null", "invalid_type", "$"),
    ("", "missing", "$"),
]


@pytest.mark.parametrize(("body", "code", "path"), INVALID)
async def test_a_wrong_field_is_named(client, body: str, code: str, path: str) -> None:
    """422; the path is a JSONPath, and the message is a remedy."""
    response = await client.post("/orders", content=body, headers=JSON)
    assert response.status_code == 422
    (error,) = problem_of(response)["errors"]
    assert (error["code"], error["path"]) == (code, path)
    assert error["message"]


async def test_lines_over_the_limit_have_a_code_of_their_own(client) -> None:
    """Fifty-one SKUs are too many; fifty-one lines of one SKU are one line."""
    many = [{"sku": f"A{number}", "quantity": 1} for number in range(51)]
    one = [{"sku": "A", "quantity": 1}] * 51
    assert problem_of(await client.post("/orders", json={"line_items": many}))["code"] == "too_many_lines"
    assert (await client.post("/orders", json={"line_items": one})).json()["lines"] == 1


async def test_findings_of_several_kinds_are_told_together(client) -> None:
    """Every wrong field is listed, under the general code."""
    body = {"line_items": [{"sku": "", "quantity": 0}], "colour": 1}
    problem = problem_of(await client.post("/orders", json=body))
    assert problem["code"] == "validation_failed"
    assert {error["code"] for error in problem["errors"]} == {
        "invalid",
        "quantity_out_of_range",
        "unknown_field",
    }


async def test_no_answer_repeats_the_input(client) -> None:
    """A secret in any wrong place stays out of the answer."""
    secret = "hunter2-secret"
    for body in (
        {"line_items": secret},
        {"line_items": [{"sku": f" {secret}", "quantity": secret}]},
        {"line_items": [{"sku": "A", "quantity": 1}], "note": {"deep": secret}},
        {"line_items": [{"sku": "A", "quantity": 1}], "unknown": secret},
        secret,
    ):
        response = await client.post("/orders", json=body)
        assert response.status_code == 422
        assert secret not in response.text


@pytest.mark.parametrize("limit", ["0", "101", "x", "1.5", "", "9" * 400])
async def test_a_wrong_query_parameter_is_named(client, limit: str) -> None:
    """By `query.` and its name."""
    (error,) = problem_of(await client.get("/orders", params={"limit": limit}))["errors"]
    assert error["path"] == "query.limit"


async def test_unknown_paths_and_methods_are_problems_too(client) -> None:
    """With the methods that would do."""
    assert problem_of(await client.get("/nowhere"))["code"] == "not_found"
    response = await client.delete("/cancel")
    assert problem_of(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


async def test_a_refusal_becomes_a_problem(client) -> None:
    """With its errors, their own members, and what the refusal adds."""
    problem = problem_of(await client.get("/refused"))
    assert problem["status"] == 409
    assert problem["checkout_id"] == "chk_1"
    assert problem["errors"] == [
        {
            "path": "$.line_items[0]",
            "code": "out_of_stock",
            "message": "Take fewer.",
            "sku": "A",
            "available": 1,
        }
    ]


async def test_overload_says_when_to_come_back(client) -> None:
    """503 and 429 carry Retry-After."""
    response = await client.get("/busy")
    assert problem_of(response)["code"] == "busy"
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ((), "$"),
        (("line_items", 0, "quantity"), "$.line_items[0].quantity"),
        (("prices", "US D"), "$.prices['US D']"),
        (("it's",), "$['it\\'s']"),
        (("x" * 500,), f"$['{'x' * 64}']"),
    ],
)
def test_json_paths(parts: tuple[str | int, ...], path: str) -> None:
    """Plain names with a dot, others quoted and cut."""
    assert json_path(parts) == path


def test_every_refusal_of_the_engine_has_a_status() -> None:
    """A code that the table lacks would be a 500."""
    codes = set()
    for folder in ("domain", "actors", "cluster", "api"):
        for file in (ROOT / folder).rglob("*.py"):
            raised = ("Refusal", "Problem") if folder == "api" else ("Refusal",)
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in raised:
                    match node.args:
                        case [ast.Constant(value=str(code)), *_]:
                            codes.add(code)
    assert "out_of_stock" in codes
    assert codes <= STATUS_OF_CODE.keys()


def test_an_unknown_code_is_a_bug_that_shows() -> None:
    """It must not become an answer without a status."""
    with pytest.raises(KeyError):
        from_refusal(Refusal("no_such_code"))


def test_a_problem_is_valid_json_whatever_it_says() -> None:
    """Any text may stand in a detail."""
    body = Problem("busy", 'ü\n\u2028"').response("r").body
    assert json.loads(bytes(body))["detail"] == 'ü\n\u2028"'
