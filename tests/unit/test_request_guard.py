"""The request guard: what every request passes first, and what becomes of unexpected errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog

from api.request_guard import MAX_BODY_BYTES, MOST_DRAINED_BYTES, RequestGuard
from tests.unit.edge_app import APP, open_client, problem_of

CARD = "4111111111111111"
JSON = {"Content-Type": "application/json"}
LINE = '{"sku":"A","quantity":1}'


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as client:
        yield client


MALFORMED = [
    b'{"line_items":',
    b"{'line_items':[]}",
    b'{"note":NaN}',
    b'{"note":1e999}',
    b'{"note":Infinity}',
    b'{"note":"\xff"}',
    b'{"note":"\xed\xa0\x80"}',
    b'{"note":"\\ud800"}',
    b'{"note":"a\x00b"}',
    b"\xef\xbb\xbf{}",
    '{"note":"x"}'.encode("utf-16"),
    b'{"note":"x"} {"note":"y"}',
    b"[" * 100_000,
    b"[" * 65 + b"]" * 65,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"9" * 5_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:20]))
async def test_what_is_not_json_is_malformed(client, body: bytes) -> None:
    """Broken, ambiguous or absurd bodies are 400, whatever is wrong with them."""
    assert problem_of(await client.post("/orders", content=body, headers=JSON))["code"] == "malformed_json"


@pytest.mark.parametrize(
    "body",
    [
        '{"note":"a","note":"b"}',
        '{"note":"a","n\\u006fte":"b"}',
        '{"a":[{"note":{"x":1},"note":"http://b"}]}',
        '{"note":"\\u003a","note":"\\u003A"}',
        '{"other":18446744073709551616,"note":1,"note":2}',
    ],
)
async def test_a_member_given_twice_is_malformed(client, body: str) -> None:
    """Which of them was meant is anyone's guess; the answer names it."""
    problem = problem_of(await client.post("/cancel", content=body, headers=JSON))
    assert (problem["code"], problem["detail"]) == ("malformed_json", "An object has more than one member note.")


async def test_a_card_number_for_a_name_is_not_echoed(client) -> None:
    """Not even where it was given twice inside of what the decoder dropped."""
    body = f'{{"a":{{"{CARD}":1,"{CARD}":2}},"a":1}}'
    answer = await client.post("/cancel", content=body, headers=JSON)
    assert problem_of(answer)["code"] == "card_number_refused"
    assert CARD not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        '{"note":"at 10:30","url":"http://a"}',
        '{"note":"10\\u003a30"}',
        '{"n":18446744073709551616}',
        '[{"a":1},{"a":2}]',
    ],
)
async def test_colons_and_names_in_other_objects_are_fine(client, body: str) -> None:
    """A name is only once in its own object, and a colon in a text is no member."""
    assert (await client.post("/cancel", content=body, headers=JSON)).status_code == 200


async def test_nesting_within_the_limit_is_no_error_of_its_own(client) -> None:
    """Many brackets side by side are not deep."""
    lines = ",".join(f'{{"sku":"A{number}","quantity":1}}' for number in range(50))
    response = await client.post("/orders", content=f'{{"line_items":[{lines}]}}', headers=JSON)
    assert response.json()["lines"] == 50


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        ("POST", "application/json", 200),
        ("POST", "Application/JSON; charset=UTF-8", 200),
        ("POST", 'application/json; charset="utf-8"', 200),
        ("POST", "application/json; charset=latin-1", 415),
        ("POST", "application/merge-patch+json", 415),
        ("POST", "text/plain", 415),
        ("POST", "multipart/form-data; boundary=x", 415),
        ("POST", None, 415),
        ("PATCH", "application/merge-patch+json", 200),
        ("PATCH", "application/json", 200),
        ("PATCH", "application/json-patch+json", 415),
    ],
)
async def test_a_body_must_say_that_it_is_json(client, method, content_type, status) -> None:
    """Merge patches are for PATCH; the answer says what to send."""
    headers = {"Content-Type": content_type} if content_type else {}
    content = f'{{"line_items":[{LINE}]}}'
    response = await client.request(method, "/orders", content=content, headers=headers)
    assert response.status_code == status
    if status == 415:
        assert problem_of(response)["code"] == "unsupported_media_type"
        assert "application/json" in response.headers["accept-patch" if method == "PATCH" else "accept"]


@pytest.mark.parametrize(
    ("encoding", "status"),
    [("identity", 200), (" Identity", 200), ("", 200), ("gzip", 415), ("br", 415), ("gzip, identity", 415)],
)
async def test_a_compressed_body_is_refused_for_what_it_is(client, encoding: str, status: int) -> None:
    """Not as broken JSON; the answer says how to send it."""
    headers = JSON | {"Content-Encoding": encoding}
    response = await client.post("/orders", content=f'{{"line_items":[{LINE}]}}', headers=headers)
    assert response.status_code == status
    if status == 415:
        assert problem_of(response)["code"] == "unsupported_media_type"
        assert response.headers["accept-encoding"] == "identity"


async def test_a_request_without_a_body_needs_no_media_type(client) -> None:
    """An empty POST is fine where no body is needed."""
    response = await client.post("/cancel", headers={"Content-Type": "text/plain"})
    assert response.json() == {"json": None}


async def test_routes_see_the_body_as_it_was_sent(client) -> None:
    """The decoded body, before defaults, is there for fingerprints."""
    body = {"line_items": [{"sku": "A", "quantity": 1}]}
    assert (await client.post("/orders", json=body)).json()["json"] == body


@pytest.mark.parametrize(
    ("declared", "read"), [(MAX_BODY_BYTES + 1, True), (MOST_DRAINED_BYTES + 1, False)], ids=["a bit", "far"]
)
async def test_a_body_that_declares_to_be_too_large_is_refused(client, declared: int, read: bool) -> None:
    """It is read to its end, for who still sends hears no answer; but not if it would take too long."""
    seen = []

    async def chunks() -> AsyncIterator[bytes]:
        seen.append(1)
        yield b" " * declared

    headers = {**JSON, "Content-Length": str(declared)}
    assert problem_of(await client.post("/orders", content=chunks(), headers=headers))["status"] == 413
    assert bool(seen) is read


@pytest.mark.parametrize(
    ("pieces", "read"), [(100, 100 * 8_192), (2_000, MOST_DRAINED_BYTES + 8_192)], ids=["a bit", "without end"]
)
async def test_a_large_chunked_body_is_refused(client, pieces: int, read: int) -> None:
    """It declares no length: it is counted, and read to its end or until that would take too long."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(pieces):
            sent += 8_192
            yield b" " * 8_192

    assert problem_of(await client.post("/orders", content=chunks(), headers=JSON))["status"] == 413
    assert sent == read


async def test_a_chunked_body_below_the_limit_is_put_together(client) -> None:
    """Wherever it was cut."""

    async def chunks() -> AsyncIterator[bytes]:
        for byte in f'{{"line_items":[{LINE}]}}'.encode():
            yield bytes((byte,))

    assert (await client.post("/orders", content=chunks(), headers=JSON)).json()["lines"] == 1


CARDS = [
    ("POST", "/orders", {"line_items": [{"sku": "A", "quantity": 1}], "note": CARD}, {}, "$.note"),
    ("POST", "/orders", {"line_items": [{"sku": CARD, "quantity": 1}]}, {}, "$.line_items[0].sku"),
    ("POST", "/orders", {"card": {"number": int(CARD)}}, {}, "$.card.number"),
    ("POST", "/orders", {"nested": {CARD: 1}}, {}, "$.nested"),
    ("GET", f"/things/{CARD}", None, {}, "path"),
    ("GET", "/orders?q=4111+1111+1111+1111", None, {}, "query"),
    ("POST", "/cancel", None, {"Idempotency-Key": CARD}, "header.Idempotency-Key"),
    ("POST", "/cancel", None, {"X-Request-Id": CARD}, "header.X-Request-Id"),
]


@pytest.mark.parametrize(("method", "url", "body", "headers", "path"), CARDS)
async def test_a_card_number_is_refused_wherever_it_stands(client, method, url, body, headers, path) -> None:
    """The place is named; the number is neither in the answer nor in a log line."""
    with structlog.testing.capture_logs() as logs:
        response = await client.request(method, url, json=body, headers=headers)
    problem = problem_of(response)
    assert problem["code"] == "card_number_refused"
    assert [error["path"] for error in problem["errors"]] == [path]
    assert CARD not in response.text + repr(logs) + repr(response.headers)


@pytest.mark.parametrize("url", ["/things/a%00b", "/things/%FF", "/orders?limit=%00", "/orders?limit=%FF"])
async def test_a_url_that_is_not_text_is_refused(client, url: str) -> None:
    """NUL characters and bytes that are no UTF-8 reach no route."""
    assert problem_of(await client.get(url))["code"] == "validation_failed"


async def test_an_unexpected_error_tells_nothing_and_is_logged_without_its_text(client) -> None:
    """The caller gets an id; the log has the same id, the error's name and place, and no personal data."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        response = await client.get("/broken", headers={"X-Request-Id": "abc-1"})
    problem = problem_of(response)
    assert problem["code"] == "internal_error"
    (entry,) = logs
    assert entry["request_id"] == "abc-1"
    assert entry["error"] == "KeyError"
    assert any("edge_app.py" in frame and "broken" in frame for frame in entry["frames"])
    assert "example.com" not in response.text + repr(logs)


async def test_an_error_after_the_answer_began_cuts_the_connection(client) -> None:
    """A half answer must not look whole; nothing can be sent in its place any more."""
    with structlog.testing.capture_logs() as logs, pytest.raises(KeyError):
        await client.get("/broken-stream")
    assert [entry["error"] for entry in logs] == ["KeyError"]


@pytest.mark.parametrize("sent", ["abc", "3F2A.77_c-1", "x" * 128])
async def test_a_sane_request_id_comes_back(client, sent: str) -> None:
    """So that a caller finds its request in its own logs and ours."""
    assert (await client.get("/orders", headers={"X-Request-Id": sent})).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a\tb", "é", "<script>"])
async def test_another_request_id_is_replaced(client, sent: str) -> None:
    """Each answer has one all the same, and each its own."""
    headers = {"X-Request-Id": sent.encode()}
    ids = [(await client.get("/orders", headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert sent not in ids
    assert len(set(ids)) == 2


async def test_a_caller_that_hangs_up_gets_nothing() -> None:
    """A body that never ends is no error of ours."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/orders", "query_string": b"", "headers": []}
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(RequestGuard(APP)(scope, receive, send), 5)
    assert sent == logs == []
