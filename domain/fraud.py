"""Fraud screening, as far as it is a pure rule: accept, or review by an operator.

Owns the rule; promises the same answer for the same facts. Velocity (how often a buyer tried lately) is the
business of whoever keeps such counts; it is not known here.
"""

from __future__ import annotations

from typing import Literal

Verdict = Literal["accept", "review"]


def screen(total_minor: int, review_above_minor: int | None) -> Verdict:
    """An order above the shop's limit (minor units, any currency) waits for an operator."""
    if review_above_minor is not None and total_minor > review_above_minor:
        return "review"
    return "accept"
