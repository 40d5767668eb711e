"""Exact arithmetic on amounts of money.

Owns the two places where a fraction of a minor unit can arise: rounding and sharing out. An amount is an
`int` of minor units (cents, yen, fils) whose currency the caller knows; nothing here is a float. Promises
exact results for integers of any size. Never looks at a currency: which ones exist is checked at the edge.
Anyone may call it.
"""

from __future__ import annotations

from collections.abc import Sequence


def half_up(numerator: int, denominator: int) -> int:
    """Return `numerator / denominator` as the nearest integer, ties away from zero.

    ValueError: a denominator that is not positive.
    """
    if denominator <= 0:
        raise ValueError(f"denominator must be positive, not {denominator}")
    if numerator < 0:
        return -((-2 * numerator + denominator) // (2 * denominator))
    return (2 * numerator + denominator) // (2 * denominator)


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """Share `total` out in proportion to `weights` by largest remainder; the shares add up to it exactly.

    Equal remainders are served by position, the first first. A weight of 0 gets 0, and no share outgrows its
    weight while `|total| <= sum(weights)`. A negative total gives the mirror image of the positive one.
    ValueError: a negative weight, or a total other than 0 where the weights add up to 0.
    """
    if min(weights, default=0) < 0:
        raise ValueError("a weight must not be negative")
    whole = sum(weights)
    if whole == 0:
        if total != 0:
            raise ValueError(f"nothing to spread {total} over: the weights add up to 0")
        return [0] * len(weights)
    size = abs(total)
    shares = [size * weight // whole for weight in weights]
    missing = size - sum(shares)
    if missing:
        remainders = [size * weight % whole for weight in weights]
        # The sort is stable, also in reverse: equal remainders keep their order.
        by_remainder = sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)
        for position in by_remainder[:missing]:
            shares[position] += 1
    return shares if total >= 0 else [-share for share in shares]
