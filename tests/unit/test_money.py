"""Rounding and sharing out: hand-worked cases, and properties against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import half_up, spread

AMOUNTS = st.integers(min_value=-(10**18), max_value=10**18)
WEIGHTS = st.lists(st.integers(min_value=0, max_value=10**12), max_size=50)


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (0, 7, 0),
        (14, 10, 1),
        (15, 10, 2),
        (25, 10, 3),
        (-14, 10, -1),
        (-15, 10, -2),
        (-16, 10, -2),
        (-25, 10, -3),
        (1, 3, 0),
        (2, 3, 1),
        (1, 2, 1),
        (-1, 2, -1),
        (10**30 + 5, 10, 10**29 + 1),
    ],
)
def test_half_up_rounds_ties_away_from_zero(numerator: int, denominator: int, expected: int) -> None:
    """A half goes up for a charge and down for a refund, so that both come to the same amount."""
    assert half_up(numerator, denominator) == expected


@pytest.mark.parametrize("denominator", [0, -1])
def test_half_up_refuses_a_denominator_that_is_not_positive(denominator: int) -> None:
    """A negative denominator would turn ties the other way, so it is an error and no result."""
    with pytest.raises(ValueError, match="denominator"):
        half_up(1, denominator)


@given(numerator=AMOUNTS, denominator=st.integers(min_value=1, max_value=10**9))
def test_half_up_is_the_nearest_integer_and_symmetric(numerator: int, denominator: int) -> None:
    """No integer is nearer, a tie is further from zero, and the sign only mirrors the result."""
    rounded = half_up(numerator, denominator)
    exact = Fraction(numerator, denominator)
    assert abs(rounded - exact) <= Fraction(1, 2)
    if abs(rounded - exact) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)
    assert half_up(-numerator, denominator) == -rounded


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (0, [], []),
        (0, [0, 0], [0, 0]),
        (0, [3, 4], [0, 0]),
        (100, [1], [100]),
        (100, [1, 1, 1], [34, 33, 33]),
        (101, [1, 1, 1], [34, 34, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        # 10 * 1/6 = 1.67, 10 * 2/6 = 3.33, 10 * 3/6 = 5: the missing unit goes to the largest remainder.
        (10, [1, 2, 3], [2, 3, 5]),
        (10, [3, 2, 1], [5, 3, 2]),
        # 1000 * 3998/4498 = 888.84, 1000 * 500/4498 = 111.16
        (1000, [3998, 500], [889, 111]),
        (1, [0, 5, 5], [0, 1, 0]),
        (7, [5, 0, 2], [5, 0, 2]),
    ],
)
def test_spread_gives_the_missing_units_to_the_largest_remainders(
    total: int, weights: list[int], expected: list[int]
) -> None:
    """Ties go to the earlier position; a weight of 0 gets nothing."""
    assert spread(total, weights) == expected


@pytest.mark.parametrize(("total", "weights"), [(1, []), (1, [0, 0]), (-1, [0]), (5, [3, -1]), (0, [-1])])
def test_spread_refuses_weights_that_cannot_carry_the_total(total: int, weights: list[int]) -> None:
    """It never loses a unit silently: a total without weights, or a negative weight, is an error."""
    with pytest.raises(ValueError, match="weight"):
        spread(total, weights)


@given(total=AMOUNTS, weights=WEIGHTS.filter(any))
def test_spread_is_exact_and_within_one_unit_of_the_proportional_share(total: int, weights: list[int]) -> None:
    """The shares add up to the total, and none is a whole unit away from its exact part."""
    shares = spread(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1
    assert spread(-total, weights) == [-share for share in shares]


@given(data=st.data(), weights=WEIGHTS.filter(any))
def test_spread_never_outgrows_a_weight_that_can_bear_it(data: st.DataObject, weights: list[int]) -> None:
    """A discount up to the subtotal takes no line below zero."""
    total = data.draw(st.integers(min_value=0, max_value=sum(weights)))
    assert all(0 <= share <= weight for share, weight in zip(spread(total, weights), weights, strict=True))


@given(total=AMOUNTS, weight=st.integers(min_value=1, max_value=10**6), count=st.integers(1, 20))
def test_spread_serves_equal_weights_by_position(total: int, weight: int, count: int) -> None:
    """Among equals the earlier never gets less, so the same lines in the same order split the same way."""
    sizes = [abs(share) for share in spread(total, [weight] * count)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1
