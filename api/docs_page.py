"""The API's description as one page for people.

Owns the page's markup; its contents are the OpenAPI document's. Promises to need nothing from elsewhere,
neither scripts nor fonts nor styles, so that it works offline and behind any content policy. Called by
`/docs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

_CODE = re.compile(r"`([^`]+)`")
_STRONG = re.compile(r"\*\*([^*]+)\*\*")
_METHODS = ("get", "post", "put", "patch", "delete")


def docs_page(openapi: Mapping[str, Any]) -> str:
    """The document as HTML."""
    info = openapi["info"]
    sections = "".join(_section(openapi, tag) for tag in openapi["tags"])
    links = "".join(f'<a href="#{_slug(tag["name"])}">{escape(tag["name"])}</a>' for tag in openapi["tags"])
    parts = {
        "TITLE": escape(info["title"]),
        "VERSION": escape(info["version"]),
        "DESCRIPTION": "".join(f"<p>{_prose(text)}</p>" for text in info["description"].split("\n\n")),
        "LINKS": links,
        "SECTIONS": sections,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _template())


@cache
def _template() -> str:
    return files("api").joinpath("web/docs.html").read_text()


def _section(openapi: Mapping[str, Any], tag: Mapping[str, str]) -> str:
    operations = "".join(_operation(openapi, *found) for found in _operations(openapi, tag["name"]))
    name = escape(tag["name"])
    about = _prose(tag["description"])
    return f'<section id="{_slug(name)}"><h2>{name}</h2><p>{about}</p>{operations}</section>'


def _operations(openapi: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in openapi["paths"].items():
        for method in _METHODS:
            if method in item and tag in item[method].get("tags", ()):
                yield method, path, item[method]


def _operation(openapi: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(_parameter(parameter) for parameter in operation.get("parameters", ()))
    body = _body(openapi, operation)
    answers = "".join(_answer(status, answer) for status, answer in operation["responses"].items())
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code>'
        f"<span>{escape(operation['summary'])}</span></summary>"
        f"<p>{_prose(operation.get('description', ''))}</p>"
        + (f"<h4>Parameters</h4><dl>{parameters}</dl>" if parameters else "")
        + (f"<h4>Body</h4>{body}" if body else "")
        + f"<h4>Answers</h4><dl>{answers}</dl></details>"
    )


def _parameter(parameter: Mapping[str, Any]) -> str:
    required = " required" if parameter.get("required") else ""
    about = _prose(parameter.get("description", ""))
    return f"<dt><code>{escape(parameter['name'])}</code> {parameter['in']}{required}</dt><dd>{about}</dd>"


def _body(openapi: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = openapi["components"]["schemas"][name]
    example = next(iter(schema.get("examples", ())), None)
    shown = escape(json.dumps(example, indent=2, ensure_ascii=False)) if example is not None else ""
    about = f"<p>{_prose(schema.get('description', ''))}</p>"
    return about + (f"<pre>{shown}</pre>" if shown else "")


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    return f"<dt>{escape(status)}</dt><dd>{_prose(answer['description'])}</dd>"


def _prose(text: str) -> str:
    shown = _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
    return _STRONG.sub(r"<strong>\1</strong>", shown)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())
