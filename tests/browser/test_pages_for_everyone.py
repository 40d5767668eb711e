"""What every page owes to those who use it without a mouse, without eyes, or on a telephone."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import BROWSER_TESTS, OpenPage, Site
from tests.browser.test_demo_shop import ROSES, button, check_out, go_to_payment, order_number, pay_with

pytestmark = BROWSER_TESTS

UNNAMED = """() => [...document.querySelectorAll("button, a[href], input, select, summary")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.innerText?.trim() || element.ariaLabel || element.labels?.length))
  .map((element) => element.outerHTML)"""
TWICE = """() => { const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  return ids.filter((id, index) => ids.indexOf(id) !== index); }"""
PICTURES = """() => [...document.images].filter((image) => image.getAttribute("alt") === null).length"""
HEADINGS = """() => [...document.querySelectorAll("h1")].filter((heading) => heading.checkVisibility()).length"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll(".button, .step, .icon, input, select")]
  .filter((element) => element.checkVisibility() && !element.closest("label"))
  .filter((element) => element.getBoundingClientRect().height < 36).map((element) => element.outerHTML)"""


async def assert_usable(page: Page) -> None:
    """Names for all controls, one main heading, nothing that sticks out, nothing too small to hit."""
    for question, expected in (
        (UNNAMED, []),
        (TWICE, []),
        (PICTURES, 0),
        (HEADINGS, 1),
        (OVERFLOW, 0),
        (SMALL, []),
    ):
        assert await page.evaluate(question) == expected, question


@pytest.mark.parametrize("width", [1280, 360])
async def test_each_step_is_usable(open_page: OpenPage, site: Site, width: int) -> None:
    """From the shelf to the order, at a desk and on a small telephone."""
    page = await open_page(width=width, height=740)
    await expect(page.locator(".card").first).to_be_visible()
    await assert_usable(page)
    await check_out(page, ROSES)
    await assert_usable(page)
    await go_to_payment(page)
    await assert_usable(page)
    await pay_with(page, "pm_card_authenticationRequired")
    await button(page, "Continue at your bank").click()
    await assert_usable(page)
    await page.get_by_label("Operator token").fill(site.token)
    await button(page, "Approve").click()
    await order_number(page)
    await assert_usable(page)


@pytest.mark.parametrize("width", [1280, 360])
async def test_the_operators_page_is_usable(open_page: OpenPage, site: Site, width: int) -> None:
    """The gate, and the board with something on it."""
    await site.shop.buy(ROSES)
    page = await open_page("/ops", width=width)
    await assert_usable(page)
    await page.get_by_role("textbox", name="Token").fill(site.token)
    await button(page, "Open").click()
    await expect(page.locator("#orders tr")).to_have_count(1)
    await assert_usable(page)


async def test_the_keyboard_is_enough(open_page: OpenPage) -> None:
    """Into the cart and out of it, and the focus is back where it was."""
    page = await open_page()
    add = page.locator(f'[data-sku="{ROSES}"]').get_by_role("button", name="Add to cart")
    await expect(page.locator(f'[data-sku="{ROSES}"] .level')).not_to_be_empty()
    await add.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Your cart")).to_be_visible()
    more = button(page, "One more")
    await more.focus()
    await page.keyboard.press("Space")
    await expect(page.locator("#cart output")).to_have_text("2")
    await expect(more).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(add).to_be_focused()


async def test_what_happens_is_said_aloud(open_page: OpenPage) -> None:
    """By the live region of the page, or of the dialog that is open: the rest is inert then."""
    page = await open_page()
    await page.get_by_label("Flowers").check(force=True)
    await expect(page.locator("#live")).to_have_text("5 products")
    await button(page.locator(f'[data-sku="{ROSES}"]'), "Add to cart").click()
    await button(page, "One more").click()
    await expect(page.locator("#cart [data-live]")).to_have_text("2 of Bouquet of Red Roses.")
