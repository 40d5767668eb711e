"""The demo shop as a buyer uses it: buy, be refused, pay otherwise, wait, be late."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import BROWSER_TESTS, OpenPage, Site

pytestmark = BROWSER_TESTS

CAKESTAND, TOADSTOOL, RIBBONS, ROSES, GARDENIAS = "22423", "21731", "22077", "bouquet_roses", "gardenias"
HOLD_TTL_MS = 900_000
CART_IDLE_MS = 1_800_000


def card_of(page: Page, sku: str) -> Locator:
    return page.locator(f'[data-sku="{sku}"]')


def button(within: Page | Locator, name: str) -> Locator:
    return within.get_by_role("button", name=name)


async def fill_cart(page: Page, *skus: str) -> None:
    for sku in skus:
        await button(card_of(page, sku), "Add to cart").click()
        await button(page, "Close the cart").click()


async def check_out(page: Page, *skus: str) -> None:
    await fill_cart(page, *skus)
    await button(page, "Cart,").click()
    await button(page, "Check out").click()
    await expect(page.get_by_role("heading", name="Where does it go?")).to_be_visible()


async def go_to_payment(page: Page, sample: str = "Springfield") -> None:
    await button(page, sample).click()
    await button(page, "Continue to delivery").click()
    await button(page, "Continue to payment").click()


async def pay_with(page: Page, token: str) -> None:
    radio = page.locator(f"#{token}")
    if not await radio.is_visible():
        await page.get_by_text("Trouble on purpose").click()
    await radio.check()
    await button(page, "Pay $").click()


async def order_number(page: Page) -> str:
    number = page.locator(".order-number strong")
    await expect(number).to_be_visible()
    return await number.inner_text()


async def test_a_buyer_gets_what_is_in_the_cart(open_page: OpenPage, site: Site) -> None:
    """Shelf, cart, address, delivery, payment, order: one capture of the total that was shown."""
    page = await open_page()
    await check_out(page, CAKESTAND, ROSES, ROSES)
    await go_to_payment(page, "New York")
    await button(page, "Delivery").click()
    await page.locator("#ship-express").check()
    await expect(page.locator("#checkout-summary .fulfillment dd")).to_have_text("$15.00")
    await button(page, "Continue to payment").click()
    total = await page.locator("#checkout-summary .total dd").inner_text()
    assert (await site.shop.figures(ROSES))["reserved"] == 2
    await pay_with(page, "pm_card_visa")

    number = await order_number(page)
    await expect(page.get_by_text("paid", exact=True)).to_be_visible()
    assert (await site.shop.figures(ROSES))["sold"] == 2
    [capture] = await site.shop.ledger("capture")
    assert total == f"${capture['amount'] / 100:.2f}"
    await page.reload()
    assert await order_number(page) == number
    await expect(button(page, "Cart,")).to_have_accessible_name("Cart, 0 items")


async def test_what_is_missing_is_said_at_its_field(open_page: OpenPage) -> None:
    """The first such field has the focus, and a sentence goes with what is typed."""
    page = await open_page()
    await check_out(page, ROSES)
    await button(page, "Continue to delivery").click()
    email = page.get_by_label("E-mail")
    await expect(email).to_be_focused()
    await expect(email).to_have_accessible_description("Give the buyer's email.")
    await expect(page.locator('[aria-invalid="true"]')).to_have_count(6)
    await email.fill("ada@example.com")
    await expect(email).not_to_have_attribute("aria-invalid", "true")
    await button(page, "Springfield").click()
    await page.get_by_label("ZIP code").fill("90210")
    await button(page, "Continue to delivery").click()
    await expect(page.locator('[aria-invalid="true"]')).to_have_attribute("name", "postal_code")


async def test_a_declined_card_is_no_end(open_page: OpenPage, site: Site) -> None:
    """The reservation stays, the reason is shown, another card pays; each attempt has a key of its own."""
    page = await open_page()
    await check_out(page, ROSES)
    await go_to_payment(page)
    await pay_with(page, "pm_card_chargeDeclinedInsufficientFunds")
    alert = page.locator("#checkout-panel").get_by_role("alert")
    await expect(alert).to_contain_text("Not enough on the card")
    assert (await site.shop.figures(ROSES))["reserved"] == 1
    await pay_with(page, "pm_card_visa")
    await order_number(page)
    await page.locator("#calls > summary").click()
    statuses = await page.locator("#calls-list > li", has_text="/complete").locator(".status").all_inner_texts()
    assert statuses == ["200", "402"]
    assert len(await site.shop.ledger("capture")) == 1


async def test_the_last_unit_goes_to_the_quicker_one(open_page: OpenPage, site: Site) -> None:
    """The other one learns which line is short, and may take the rest."""
    slow, quick = await open_page(), await open_page(f"/#/buy/{TOADSTOOL}")
    await expect(card_of(slow, TOADSTOOL)).to_contain_text("The last one")
    await fill_cart(slow, TOADSTOOL, RIBBONS)
    await button(quick, "Springfield").click()
    await button(quick, "Buy now").click()
    await order_number(quick)

    await button(slow, "Cart,").click()
    await button(slow, "Check out").click()
    await expect(slow.locator("#cart").get_by_role("alert")).to_contain_text("Somebody was quicker")
    await expect(slow.locator("#cart .is-short")).to_contain_text("Sold out")
    assert (await site.shop.figures(RIBBONS))["reserved"] == 0
    await button(slow, "Take what there is").click()
    await expect(slow.locator("#checkout-panel")).to_contain_text("Red Toadstool LED Night Light is out of stock")
    await expect(slow.locator("#checkout-summary .line")).to_have_count(1)
    assert (await site.shop.figures(RIBBONS))["reserved"] == 1


async def test_the_shelf_shows_what_is_there_now(open_page: OpenPage, site: Site) -> None:
    """Somebody else buys; nobody reloads."""
    page = await open_page()
    await expect(card_of(page, CAKESTAND)).to_contain_text("Only 3 left")
    await expect(button(card_of(page, GARDENIAS), "Add to cart")).to_be_disabled()
    await site.shop.buy(CAKESTAND, 3)
    await expect(card_of(page, CAKESTAND)).to_contain_text("Sold out")
    await expect(button(card_of(page, CAKESTAND), "Add to cart")).to_be_disabled()


@pytest.mark.parametrize(
    ("token", "place"), [("pm_card_authenticationRequired", "your bank"), ("pm_sandbox_paypal", "PayPal")]
)
async def test_a_step_at_the_bank_ends_in_an_order(open_page: OpenPage, site: Site, token: str, place: str) -> None:
    """An operator's token stands in for the bank; a wrong one is said to be wrong."""
    page = await open_page()
    await check_out(page, ROSES)
    await go_to_payment(page)
    await pay_with(page, token)
    await button(page, f"Continue at {place}").click()
    await page.get_by_label("Operator token").fill("nonsense")
    await button(page, "Approve").click()
    await expect(page.locator("#bank").get_by_role("alert")).to_contain_text("does not take this token")
    await page.get_by_label("Operator token").fill(site.token)
    await button(page, "Approve").click()
    await order_number(page)


async def test_a_refusal_at_the_bank_is_a_decline(open_page: OpenPage, site: Site) -> None:
    """And survives a reload in between: the page finds its way back to the bank."""
    page = await open_page()
    await check_out(page, ROSES)
    await go_to_payment(page)
    await pay_with(page, "pm_card_authenticationRequired")
    await expect(button(page, "Continue at your bank")).to_be_visible()
    await page.reload()
    await button(page, "Continue at your bank").click()
    await page.get_by_label("Operator token").fill(site.token)
    await button(page, "Refuse").click()
    alert = page.locator("#checkout-panel").get_by_role("alert")
    await expect(alert).to_contain_text("did not confirm it was you")
    assert await site.shop.ledger("capture") == []


async def test_an_unknown_outcome_is_waited_for(open_page: OpenPage, site: Site) -> None:
    """Nothing is called failed, a reload changes nothing, and in the end one payment stands."""
    page = await open_page()
    await check_out(page, ROSES)
    await go_to_payment(page)
    site.shop.engine.gateway.configure(mode="down")
    await pay_with(page, "pm_card_visa")
    await expect(page.get_by_role("heading", name="Paying")).to_be_visible()
    await site.shop.engine.settled()
    await page.reload()
    await expect(page.get_by_role("heading", name="Paying")).to_be_visible()
    site.shop.engine.gateway.configure(mode="up")
    site.shop.engine.resume()
    await order_number(page)
    assert len(await site.shop.ledger("capture")) == 1


async def test_a_reservation_that_runs_out_is_said_and_can_be_renewed(open_page: OpenPage, site: Site) -> None:
    """The stream of events tells the page; the cart is as it was."""
    page = await open_page()
    await check_out(page, CAKESTAND)
    await expect(page.locator(".reservation .time")).to_have_text(re.compile(r"1[45]:\d\d"))
    await site.shop.engine.advance(HOLD_TTL_MS + 1)
    await expect(page.get_by_role("heading", name="The reservation has run out")).to_be_visible()
    assert (await site.shop.figures(CAKESTAND))["reserved"] == 0
    await button(page, "Reserve again").click()
    await expect(page.get_by_role("heading", name="Where does it go?")).to_be_visible()
    assert (await site.shop.figures(CAKESTAND))["reserved"] == 1
    await button(page, "Cancel and release").click()
    await expect(page.get_by_role("heading", name="Called off")).to_be_visible()
    assert (await site.shop.figures(CAKESTAND))["reserved"] == 0


async def test_a_cart_that_idled_away_is_taken_up_again(open_page: OpenPage, site: Site) -> None:
    """The page restores it when the buyer goes on."""
    page = await open_page()
    await fill_cart(page, ROSES)
    await site.shop.engine.advance(CART_IDLE_MS + 1)
    await button(page, "Cart,").click()
    await button(page, "One more").click()
    await expect(page.locator("#cart output")).to_have_text("2")


async def test_another_currency_keeps_the_lines(open_page: OpenPage) -> None:
    """A cart's currency is for life, so the page makes another cart."""
    page = await open_page()
    await fill_cart(page, ROSES, ROSES)
    await page.get_by_label("Currency").select_option("JPY")
    await expect(card_of(page, ROSES).locator(".price")).to_have_text("¥5,200")
    await button(page, "Cart,").click()
    await expect(page.locator("#cart .total dd")).to_have_text("¥10,400")


async def test_buy_now_is_one_call_and_a_decline_leads_to_the_checkout(open_page: OpenPage, site: Site) -> None:
    """What was entered and reserved is not lost."""
    page = await open_page()
    await card_of(page, ROSES).get_by_role("link", name="Buy now").click()
    await button(page, "Buy now").click()
    await expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    assert (await site.shop.figures(ROSES))["reserved"] == 0
    await button(page, "Berlin").click()
    await page.locator("#pm_card_chargeDeclined").check()
    await button(page, "Buy now").click()
    await expect(page.locator("#checkout-panel").get_by_role("alert")).to_contain_text("declined")
    assert (await site.shop.figures(ROSES))["reserved"] == 1
    await pay_with(page, "pm_card_visa")
    await order_number(page)
    await expect(page.locator("#order-summary .included dt")).to_have_text("Includes tax of")
