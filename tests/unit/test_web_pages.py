"""How the pages are served, and that their files hold together: there is no build step that would notice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

import demo
from api.addresses import COUNTRIES
from api.settings import ApiSettings
from tests.support.shop import Shop, open_shop

WEB = Path(__file__).parents[2] / "api" / "web"
SCRIPTS = sorted(WEB.rglob("*.js"))
PAGES = [WEB / "index.html", WEB / "ops.html"]
MOST_LINES = 300
DASHBOARD = "http://127.0.0.1:8265"


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop(ApiSettings(demo_on=True, dashboard_url=DASHBOARD)) as opened:
        yield opened


def asset_of(url: str) -> Path:
    """The file behind a path such as `/assets/base.css`."""
    return WEB / url.removeprefix("/")


def imports_of(script: Path) -> list[str]:
    return re.findall(r'from "([^"]+)"', script.read_text())


@pytest.mark.parametrize(("path", "mark"), [("/", "Petal &amp; Parcel"), ("/ops", "operator")])
async def test_a_page_may_load_only_from_its_own_server(shop: Shop, path: str, mark: str) -> None:
    """The content policy allows no inline code, no other host, no framing."""
    page = await shop.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert mark in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_what_a_browser_has_costs_a_304(shop: Shop) -> None:
    """Files are asked about each time, so that a new version shows at once."""
    first = await shop.get("/assets/shop/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    again = await shop.get("/assets/shop/main.js", {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await shop.get("/assets/base.css", {"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


async def test_files_are_compressed_for_those_who_ask(shop: Shop) -> None:
    """The same content either way."""
    plain = await shop.get("/assets/base.css", {"Accept-Encoding": "identity"})
    packed = await shop.get("/assets/base.css", {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.text == packed.text == asset_of("/assets/base.css").read_text()


@pytest.mark.parametrize(
    "path",
    ["/assets/", "/assets/none.js", "/assets/../app.py", "/assets/%2e%2e/index.html", "/assets/../docs.html"],
)
async def test_nothing_else_is_served(shop: Shop, path: str) -> None:
    """Only the files that were there at the start, by their own names."""
    url = shop.client.base_url.copy_with(raw_path=path.encode())
    assert (await shop.client.send(httpx.Request("GET", url))).status_code == 404


async def test_the_pages_know_the_goods_and_the_dashboard(shop: Shop) -> None:
    """What they cannot ask the API for."""
    assert (await shop.get("/demo/config.json")).json() == {
        "mode": "development",
        "dashboard_url": DASHBOARD,
        "demo": True,
    }
    assert (await shop.get("/demo/products.json")).json() == {"products": demo.products()}
    paths = (await shop.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if not path.startswith(("/v1/", "/healthz", "/readyz", "/metrics"))]


async def test_without_the_demo_there_is_no_shop() -> None:
    """No shelf of things nobody stocks; the operators' page stays, and leads to no shop."""
    async with open_shop(ApiSettings(demo_on=False)) as shop:
        home = await shop.get("/")
        assert (home.status_code, home.json()["code"]) == (404, "not_found")
        assert (await shop.get("/ops")).status_code == 200
        assert (await shop.get("/demo/config.json")).json()["demo"] is False
        assert (await shop.get("/demo/products.json")).json() == {"products": []}


def test_every_product_has_its_picture() -> None:
    """And every picture its product."""
    drawn = {path.stem for path in (WEB / "assets" / "pictures").glob("*.svg")}
    assert drawn == {product["picture"] for product in demo.products()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_are_there(page: Path) -> None:
    """And has no script, style or handler of its own, which the content policy would block."""
    text = page.read_text()
    assert [url for url in re.findall(r'"(/assets/[^"]+)"', text) if not asset_of(url).is_file()] == []
    assert re.findall(r"<script(?![^>]*src=)[^>]*>|<style|\sstyle=|\son[a-z]+=", text) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{script.parent.name}/{script.name}")
def test_a_script_holds_together(script: Path) -> None:
    """It imports names that are exported, uses what it imports, and stays small."""
    text = script.read_text()
    assert len(text.splitlines()) < MOST_LINES
    for names, source in re.findall(r'import \{ ([^}]+) \} from "([^"]+)"', text):
        exported = (script.parent / source).read_text()
        for entry in names.split(", "):
            name, _, alias = entry.partition(" as ")
            assert re.search(rf"export (async )?(function|const|let) {name}\b", exported), (source, name)
            assert len(re.findall(rf"\b{alias or name}\b", text)) > 1, f"{name} is imported for nothing"
    ids = re.findall(r'byId\("([^"]+)"\)', text)
    page = (WEB / ("ops.html" if script.parent.name == "ops" else "index.html")).read_text()
    assert [name for name in ids if f'id="{name}"' not in page] == []


def test_every_script_is_loaded() -> None:
    """From one of the two entry points, directly or not."""
    reached: set[Path] = set()
    waiting = [WEB / "assets" / "shop" / "main.js", WEB / "assets" / "ops" / "main.js"]
    while waiting:
        script = waiting.pop().resolve()
        if script not in reached:
            reached.add(script)
            waiting += [script.parent / source for source in imports_of(script)]
    assert reached == {script.resolve() for script in SCRIPTS}


def test_nothing_comes_from_elsewhere() -> None:
    """The pages work offline: no file names another host, but for the namespace of SVG."""
    files = [path for path in WEB.rglob("*") if path.is_file()]
    found = {url for path in files for url in re.findall(r"https?://[\w./-]+", path.read_text())}
    assert found <= {"http://www.w3.org/2000/svg"}


def test_the_form_offers_countries_that_the_api_knows() -> None:
    """All of them, and no other: an offer that is refused would be a dead end."""
    text = (WEB / "assets" / "shop" / "countries.js").read_text()
    found = re.search(r"`([A-Z\s]+)`", text)
    assert found is not None
    codes = set(found[1].split())
    assert codes == COUNTRIES
