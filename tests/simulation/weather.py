"""What one seed is like: how big its shop is, which faults it has and how often.

Owns the distributions. Each kind of fault is there or not by the toss of a coin, at a rate drawn for the seed
(swarm testing): what many faults at once would hide, few of one kind show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from random import Random

from domain.checkout_model import Policy

FAULTS_S = 4.0  # so long anything may go wrong


@dataclass
class Weather:
    """Rates are chances a message, statement or call; ``*_per_s`` are chances of the whole shop in a second."""

    slow: float = 0.0
    drop_request: float = 0.0
    drop_answer: float = 0.0
    late_request: float = 0.0
    silent_duplicate: float = 0.0
    db_slow: float = 0.0
    db_fails_before: float = 0.0
    db_fails_after: float = 0.0
    db_late: float = 0.0
    db_refuses_order: float = 0.0
    crash_per_s: float = 0.0
    crash_again: float = 0.0
    crash_at_commit: float = 0.0
    crash_at_step: float = 0.0
    split_per_s: float = 0.0
    pause_per_s: float = 0.0
    zombie_per_s: float = 0.0
    partition_per_s: float = 0.0
    outage_per_s: float = 0.0
    clock_jump_per_s: float = 0.0
    gateway_trouble_per_s: float = 0.0

    def calm(self) -> None:
        for fault in fields(self):
            setattr(self, fault.name, 0.0)


# The highest rate of each fault; drawn between a tenth of it and itself.
WORST = {
    "slow": 0.3,
    "drop_request": 0.2,
    "drop_answer": 0.2,
    "late_request": 0.15,
    "silent_duplicate": 0.3,
    "db_slow": 0.3,
    "db_fails_before": 0.1,
    "db_fails_after": 0.1,
    "db_late": 0.1,
    "db_refuses_order": 0.8,
    "crash_per_s": 4.0,
    "crash_again": 0.7,
    "crash_at_commit": 0.05,
    "crash_at_step": 0.1,
    "split_per_s": 2.0,
    "pause_per_s": 1.5,
    "zombie_per_s": 2.0,
    "partition_per_s": 2.0,
    "outage_per_s": 0.7,
    "clock_jump_per_s": 1.0,
    "gateway_trouble_per_s": 2.0,
}


OFTEN = 2  # times as many of a fault that comes without others

# Left out unless asked for: nothing promises to bear them. A call that is carried twice, though its caller saw no
# error, can take pinned stock for a checkout that has been refused.
NOT_PROMISED = frozenset({"silent_duplicate"})


@dataclass
class Shop:
    """The size of a seed's shop, and its settings."""

    stock_shards: int = 1
    cart_shards: int = 1
    checkout_shards: int = 1
    workers: int = 2
    buyers: int = 4
    operators: int = 1
    units: dict[str, int] = field(default_factory=dict)
    hold_ttl_ms: int = 6_000
    cart_idle_ms: int = 20_000
    buyer_action_ms: int = 3_000
    payment_attempts: int = 2
    review_above_minor: int | None = None
    latency_ms: str = "0"
    max_queue: int = 20_000

    @property
    def policy(self) -> Policy:
        return Policy(
            hold_ttl_ms=self.hold_ttl_ms,
            cart_idle_ms=self.cart_idle_ms,
            payment_attempts=self.payment_attempts,
            buyer_action_ms=self.buyer_action_ms,
            review_above_minor=self.review_above_minor,
            outbox_destinations=("mail",),
        )


def draw_weather(rng: Random, without: frozenset[str], only: frozenset[str]) -> Weather:
    """``only``: these faults and no others, often; none: by the toss of coins."""
    weather = Weather()
    for fault, worst in WORST.items():
        on, share = rng.random() < 0.4, rng.uniform(0.1, 1.0)
        if fault in only or (on and not only and fault not in without):
            setattr(weather, fault, worst * share * (OFTEN if only else 1))
    return weather


def draw_shop(rng: Random) -> Shop:
    skus = rng.randint(1, 4)
    return Shop(
        stock_shards=rng.choice((1, 2, 2, 3)),
        cart_shards=rng.choice((1, 2)),
        checkout_shards=rng.choice((1, 2, 2)),
        workers=rng.choice((1, 2)),
        buyers=rng.randint(2, 6),
        operators=rng.choice((1, 1, 2)),
        units={f"sku-{n}": rng.choice((1, 2, 3, 5, 20)) for n in range(skus)},
        hold_ttl_ms=rng.choice((1_000, 4_000, 8_000)),
        cart_idle_ms=rng.choice((1_000, 2_000, 20_000)),
        buyer_action_ms=rng.choice((1_000, 3_000)),
        payment_attempts=rng.choice((1, 1, 2, 3)),
        review_above_minor=rng.choice((None, None, 1_500)),
        latency_ms=rng.choice(("0", "0", "50-300", "300-1500")),
        max_queue=rng.choice((20_000, 20_000, 2)),
    )
