"""Sets the stage: puts the sale's products and stock into the shop, and asks what a buyer must know.

Speaks as the operator for the catalogue, and as a guest to learn the currency and a shipping option.
Promises a stock of exactly the plan's units, read back. Raises `SaleFailedError` or `TargetError` when the
shop cannot hold the sale. Called by the run, once, before the first buyer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import aiohttp
import msgspec

from benchmarks.flash_sale.buyers import Letters, key_of
from benchmarks.flash_sale.config import Plan, Product, SaleConfig, SaleFailedError, Stage
from operator_client import BATCH_LIMIT, BatchResult, OperatorClient

_PROBE = 0  # buyers count from 1


async def set_stage(operator: OperatorClient, config: SaleConfig, plan: Plan) -> Stage:
    """Make the shop ready for the plan's buyers."""
    if config.latency_ms is not None:
        await operator.set_sandbox(config.latency_ms)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as guest:
        server = await _server_facts(guest, config.url)
        cart = await _ask(guest, "POST", f"{config.url}/v1/carts", b"{}", f"sale-{plan.run}-currency")
        currency = str(cart["currency"])
        await _stock_up(operator, plan.products, currency)
        option = await _shipping_option(operator, guest, config, plan, currency)
    return Stage(currency, option, server)


async def _stock_up(operator: OperatorClient, products: Sequence[Product], currency: str) -> None:
    for batch in _chunks(products):
        _demand_success(
            await operator.put_products(
                [{"sku": each.sku, "title": each.title, "prices": {currency: each.price}} for each in batch]
            )
        )
        _demand_success(
            await operator.set_stock([{"sku": each.sku, "set": each.units} for each in batch], "flash sale")
        )


async def _shipping_option(
    operator: OperatorClient, guest: aiohttp.ClientSession, config: SaleConfig, plan: Plan, currency: str
) -> str | None:
    """The cheapest option the shop offers to the buyers' addresses, learned from a checkout given up again.

    It is of a product of its own, so that the sale's stock is not touched. None for one-shot journeys,
    which take the shop's choice.
    """
    if config.journey == "one-shot":
        return None
    probe = Product(f"SALE-{plan.run}-probe", "Flash sale probe", 1999, 1)
    await _stock_up(operator, [probe], currency)
    body = Letters(plan.run, None).one_shot(_PROBE, ((probe.sku, 1),))
    wanted = {name: value for name, value in msgspec.json.decode(body).items() if name != "payments"}
    url = f"{config.url}/v1/checkouts"
    started = await _ask(guest, "POST", url, msgspec.json.encode(wanted), key_of(plan.run, _PROBE, "start"))
    token = {"Cart-Token": started["token"]} if "token" in started else {}
    cancel = f"{url}/{started['id']}/cancel"
    await _ask(guest, "POST", cancel, b"{}", key_of(plan.run, _PROBE, "cancel"), token)
    options = started.get("shipping_options") or []
    if not options:
        raise SaleFailedError("the shop offers no shipping to the buyers' addresses in the United States")
    return str(min(options, key=lambda option: option["amount"])["id"])


async def _server_facts(guest: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """What the server tells of itself: the `Server` header and the plain values of `/healthz`."""
    try:
        async with guest.get(f"{url}/healthz") as answer:
            facts = {"server": answer.headers.get("Server", "")}
            body = msgspec.json.decode(await answer.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SaleFailedError(f"no answer from {url}: {error}. Is the server up?") from error
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict):
        facts |= {str(name): str(value) for name, value in body.items() if isinstance(value, str | int)}
    return {name: value for name, value in facts.items() if value}


async def _ask(
    guest: aiohttp.ClientSession,
    method: str,
    url: str,
    body: bytes,
    key: str,
    credentials: dict[str, str] | None = None,
) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, **(credentials or {})}
    try:
        async with guest.request(method, url, data=body, headers=headers) as answer:
            status, payload = answer.status, await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SaleFailedError(f"{method} {url} got no answer: {error}") from error
    if status not in (200, 201):
        said = payload[:300].decode(errors="replace")
        raise SaleFailedError(f"a buyer cannot begin: {method} {url} answered {status} {said}")
    decoded: dict[str, Any] = msgspec.json.decode(payload)
    return decoded


def _demand_success(results: Sequence[BatchResult]) -> None:
    for result in results:
        if result.status == "error":
            raise SaleFailedError(f"the shop refuses the sale's products: {result.code} {result.message}")


def _chunks(products: Sequence[Product]) -> Iterator[list[Product]]:
    stream = iter(products)
    while chunk := list(islice(stream, BATCH_LIMIT)):
        yield chunk
