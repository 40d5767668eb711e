"""The operators' page: who gets in, and what they can see and do there."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.browser.conftest import BROWSER_TESTS, OpenPage, Site
from tests.browser.test_demo_shop import ROSES, button
from tests.support.shop import CARD

pytestmark = BROWSER_TESTS


async def open_board(open_page: OpenPage, site: Site) -> Page:
    page = await open_page(f"/ops#token={site.token}")
    await expect(page.locator("#audit")).to_contain_text("Everything adds up")
    return page


async def test_only_an_operator_gets_in(open_page: OpenPage, site: Site) -> None:
    """A customer's token opens nothing; the operator's stays in the tab until it is forgotten."""
    page = await open_page("/ops")
    customer = site.shop.customer()["Authorization"].removeprefix("Bearer ")
    await page.get_by_role("textbox", name="Token").fill(customer)
    await button(page, "Open").click()
    await expect(page.locator("#gate-error")).to_contain_text("does not take this token")
    await expect(page.locator("#board")).to_be_hidden()
    await page.get_by_role("textbox", name="Token").fill(site.token)
    await button(page, "Open").click()
    await expect(page.locator("#audit")).to_contain_text("Everything adds up")
    await page.reload()
    await expect(page.locator("#board")).to_be_visible()
    await button(page, "Forget token").click()
    await page.reload()
    await expect(page.get_by_role("heading", name="An operator's token, please")).to_be_visible()


async def test_a_token_in_the_address_does_not_stay_there(open_page: OpenPage, site: Site) -> None:
    """It was in the fragment, which no server sees; nobody copies it with the address."""
    page = await open_board(open_page, site)
    assert page.url == f"{site.url}/ops"


async def test_an_order_is_shipped_delivered_and_another_canceled(open_page: OpenPage, site: Site) -> None:
    """The board shows new orders by itself."""
    page = await open_board(open_page, site)
    first = (await site.shop.buy(ROSES)).json()["order"]
    row = page.locator("#orders tr", has_text=first["number"])
    await button(row, "Ship").click()
    await page.get_by_label("Tracking number").fill("JD014600006281230701")
    await button(page, "Shipped").click()
    await button(row, "Delivered").click()
    await expect(row.locator(".badge").first).to_have_text("delivered")
    second = (await site.shop.buy(ROSES)).json()["order"]
    row = page.locator("#orders tr", has_text=second["number"])
    await button(row, "Cancel").click()
    await expect(row.locator(".badge").first).to_have_text("canceled")
    await expect(row.locator(".badge").last).to_have_text("refunded")
    assert (await site.shop.figures(ROSES))["sold"] == 1


async def test_the_stock_of_a_sku_shows_who_holds_it(open_page: OpenPage, site: Site) -> None:
    """With the owner and its epoch; adjusting says why it is refused."""
    started = await site.shop.post("/v1/checkouts", {"line_items": [{"sku": ROSES, "quantity": 4}]})
    page = await open_board(open_page, site)
    await page.get_by_role("combobox", name="SKU").fill(ROSES)
    await button(page, "Look up").click()
    account = page.locator("#stock")
    await expect(account).to_contain_text("stock-0")
    await expect(account.locator("tbody tr")).to_contain_text(started.json()["id"])
    await account.get_by_label("How").select_option("set")
    await account.get_by_label("Units").fill("3")
    await account.get_by_label("Reason").fill("recount")
    await button(account, "Adjust").click()
    await expect(account.get_by_role("alert")).not_to_be_empty()
    await account.get_by_label("Units").fill("9")
    await button(account, "Adjust").click()
    await expect(account.locator("dl")).to_contain_text("received9")
    assert (await site.shop.figures(ROSES))["available"] == 5


async def test_the_gateway_is_steered_and_its_buyers_stood_for(open_page: OpenPage, site: Site) -> None:
    """Mode and latency as they are; a payment that waits for its buyer can be approved from the book."""
    page = await open_board(open_page, site)
    await page.get_by_text("error", exact=True).click()
    await page.get_by_label("Latency in ms").fill("soon")
    await button(page, "Apply").click()
    await expect(page.locator("#latency-error")).to_contain_text("1000-3000")
    await page.get_by_label("Latency in ms").fill("20-40")
    await button(page, "Apply").click()
    await expect(page.locator("#sandbox-state")).to_have_text("error · 20-40 ms")
    assert site.shop.engine.gateway.settings.mode == "error"
    site.shop.engine.gateway.configure(mode="up", latency_ms="0")

    payments = [{**CARD[0], "token": "pm_card_authenticationRequired"}]
    waiting = await site.shop.buy(ROSES, payments=payments)
    checkout = waiting.json()["checkout"]
    row = page.locator("#ledger tr", has_text=checkout["id"])
    await expect(row).to_contain_text("requires action")
    await button(row, "Approve").click()
    await expect(row).to_contain_text("succeeded")
