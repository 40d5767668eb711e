"""What the HTTP edge must know of the shop's settings; the composition root fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from api.request_guard import MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`currency` is that of carts and checkouts which name none; times in seconds, sizes in bytes.

    `sandbox_on`: the sandbox gateway is in use and operators may steer it. `public_url`: where buyers reach
    the shop, without a slash at its end; it completes the URLs that answers hold.
    """

    mode: Literal["development", "production"] = "development"
    currency: str = "USD"
    version: str = "0.1.0"
    rate_limits_on: bool = False
    sandbox_on: bool = True
    public_url: str = ""
    dashboard_url: str = ""
    demo_on: bool = False
    # A batch of 1,000 products has to fit.
    max_body_bytes: int = 4 * MAX_BODY_BYTES
    wait_s: float = 30.0
    cancel_wait_s: float = 1.0
    heartbeat_s: float = 15.0
