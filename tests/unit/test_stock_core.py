"""The stock actor's core: products, levels, adjustments, and takes that answer with the product's facts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain import stock
from domain.catalog import Product
from domain.ledger import STALE_TAKE_MS, TOMBSTONE_MS
from domain.messages import KEY_REUSED, KEYED_ANSWER_MS, TOO_MANY, Key, Refusal, Replayed
from domain.stock import (
    MOST_ANSWERS,
    Adjust,
    Claim,
    Claimed,
    Confirm,
    Extend,
    Forget,
    GiveBack,
    Held,
    HoldState,
    Inspect,
    Levels,
    Offer,
    Pin,
    ProductStored,
    PutProduct,
    Quote,
    Quotes,
    Release,
    Shortage,
    ShortLine,
    Sweep,
    Take,
    Trim,
    Unpin,
)

TEA = Product("Tea", {"USD": 500})
MUG = Product("Mug", {"USD": 1200})
_ID = b"0" * 16


class Shelf:
    """A stock core with its world; decodes each event from its journal form before it is applied."""

    def __init__(self, **units: int) -> None:
        self.world: dict[Key, Any] = {}
        self.now_ms = 1_000_000
        for sku, count in units.items():
            self.ask(PutProduct(command_id=_ID, sku=sku, product=TEA if sku == "tea" else MUG))
            if count:
                self.ask(Adjust(command_id=sku.encode().ljust(16), sku=sku, delta=count))

    def get(self, kind: str, identifier: str) -> Any:
        return self.world.get((kind, identifier))

    def ask(self, command: stock.StockCommand) -> Any:
        decision = stock.decide(self, command, self.now_ms)
        journal = msgspec.msgpack.encode(list(decision.events))
        for event in msgspec.msgpack.decode(journal, type=list[stock.StockEvent]):
            for key in stock.touches(event):
                self.world[key] = stock.evolve(key, self.world.get(key), event)
        return decision.reply

    def take(self, hold_id: str = "h", revision: int = 1, pinned: bool = False, **wanted: int) -> Any:
        return self.ask(
            Take(
                command_id=_ID,
                hold_id=hold_id,
                revision=revision,
                wanted={stock.account_of(sku): units for sku, units in wanted.items()},
                expires_at_ms=self.now_ms + 60_000,
                issued_at_ms=self.now_ms,
                pinned=pinned,
            )
        )

    def levels(self, sku: str = "tea") -> tuple[int, int, int]:
        """(on hand, reserved, sold)"""
        found = self.ask(Inspect(command_id=_ID, sku=sku))
        return found.on_hand, found.reserved, found.sold


def kept(reply: Any) -> Any:
    """The first answer, as it is given again."""
    assert isinstance(reply, Replayed)
    return msgspec.msgpack.decode(reply.body, type=stock.StockReply)


def test_a_take_freezes_price_and_stock_in_one_answer():
    """The answer has the facts of every product taken, and the units are no longer available."""
    shelf = Shelf(tea=5, mug=2)
    assert shelf.take(tea=3, mug=1) == Held({"sku:tea": TEA, "sku:mug": MUG})
    assert shelf.levels("tea") == (5, 3, 0)
    assert shelf.levels("mug") == (2, 1, 0)


def test_a_shortage_names_every_line_that_cannot_be_had_and_holds_nothing():
    """Short lines and unknown SKUs are told in the order asked, each with what there is."""
    shelf = Shelf(tea=1, mug=0)
    assert shelf.take(mug=2, tea=1) == Shortage((ShortLine("sku:mug", 2, 0, True),))
    assert shelf.take(mug=2, hat=1, tea=3) == Shortage(
        (
            ShortLine("sku:mug", 2, 0, True),
            ShortLine("sku:hat", 1, 0, False),
            ShortLine("sku:tea", 3, 1, True),
        )
    )
    assert shelf.levels() == (1, 0, 0)


def test_the_way_of_a_hold_from_take_to_return():
    """Pinned, it outlives its time; confirmed, its units are sold; returned, they are on hand again."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    assert shelf.ask(Pin(command_id=_ID, hold_id="h", revision=2)) == HoldState("pinned")
    shelf.now_ms += 120_000
    shelf.ask(Sweep(command_id=_ID, hold_ids=("h",)))
    assert shelf.ask(Confirm(command_id=_ID, hold_id="h")) == HoldState("confirmed")
    assert shelf.levels() == (3, 0, 2)
    back = GiveBack(command_id=_ID, hold_id="rh", legs={"sku:tea": 2}, issued_at_ms=shelf.now_ms)
    assert shelf.ask(back) == HoldState("returned")
    assert shelf.ask(back) == HoldState("returned")
    assert shelf.levels() == (5, 0, 0)


def test_a_return_from_an_old_message_is_refused():
    """A paused caller that wakes up after the return was done and forgotten cannot do it again."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2, pinned=True)
    shelf.ask(Confirm(command_id=_ID, hold_id="h"))
    issued_at_ms = shelf.now_ms
    shelf.now_ms += STALE_TAKE_MS + 1
    late = GiveBack(command_id=_ID, hold_id="rh", legs={"sku:tea": 2}, issued_at_ms=issued_at_ms)
    assert shelf.ask(late) == HoldState("unknown", "stale", shelf.now_ms)
    assert shelf.levels() == (3, 0, 2)


@pytest.mark.parametrize(
    ("command", "expected", "levels"),
    [
        (Release(command_id=_ID, hold_id="h"), HoldState("released"), (5, 0, 0)),
        (Trim(command_id=_ID, hold_id="h", revision=2, target={"sku:tea": 1}), HoldState("held"), (5, 1, 0)),
        (Extend(command_id=_ID, hold_id="h", expires_at_ms=9_000_000, revision=2), HoldState("held"), (5, 2, 0)),
        (Unpin(command_id=_ID, hold_id="h", expires_at_ms=9_000_000, revision=2), HoldState("held"), (5, 2, 0)),
        (Confirm(command_id=_ID, hold_id="h"), HoldState("held", "finished"), (5, 2, 0)),
        (Pin(command_id=_ID, hold_id="x", revision=2), HoldState("unknown", "unknown"), (5, 2, 0)),
        (Forget(command_id=_ID, hold_ids=("h", "x")), HoldState("", "finished"), (5, 2, 0)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, msgspec.Struct) else None,
)  # fmt: skip
def test_each_step_on_a_held_hold_of_two(command, expected, levels):
    """The step's answer tells where the hold stands; the figures follow."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    assert shelf.ask(command) == expected
    assert shelf.levels() == levels


def test_an_expired_hold_gives_its_units_back_and_is_dropped_in_time():
    """The sweep expires it, tells later askers so, and forgets it when no message can be under way."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    shelf.now_ms += 60_000
    shelf.ask(Sweep(command_id=_ID, hold_ids=("h", "h", "unknown")))
    assert shelf.levels() == (5, 0, 0)
    assert shelf.ask(Pin(command_id=_ID, hold_id="h")) == HoldState("expired", "finished")
    shelf.now_ms += TOMBSTONE_MS
    shelf.ask(Sweep(command_id=_ID, hold_ids=("h",)))
    assert shelf.get("hold", "h") is None


def test_a_release_before_its_take_leaves_a_tombstone():
    """The take that comes late finds it; nothing is held for a saga that is over."""
    shelf = Shelf(tea=5)
    assert shelf.ask(Release(command_id=_ID, hold_id="h")) == HoldState("released")
    assert shelf.take(tea=1) == HoldState("released", "finished")
    assert shelf.levels() == (5, 0, 0)


def adjust(key: bytes = b"k" * 16, fingerprint: bytes = b"f", **change: int) -> Adjust:
    return Adjust(command_id=key, fingerprint=fingerprint, sku="tea", **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"delta": 3}, (8, 2, 0)), ({"delta": -3}, (2, 2, 0)), ({"set_to": 9}, (9, 2, 0)), ({"set_to": 2}, (2, 2, 0))],
)  # fmt: skip
def test_an_adjustment_moves_what_is_on_hand(change, expected):
    """`delta` adds, `set` sets; two units stay reserved throughout."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    assert isinstance(shelf.ask(adjust(**change)), Levels)
    assert shelf.levels() == expected


@pytest.mark.parametrize(("change", "path"), [({"delta": -4}, "$.delta"), ({"set_to": 1}, "$.set")])
def test_an_adjustment_below_what_is_reserved_is_refused(change, path):
    """Nobody can write off units that a buyer holds; the refusal tells how many those are."""
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    refusal = shelf.ask(adjust(**change))
    assert (refusal.code, refusal.errors[0].path) == ("below_reserved", path)
    assert refusal.extra == {"on_hand": 5, "reserved": 2}
    assert shelf.levels() == (5, 2, 0)


@pytest.mark.parametrize("delta", [2, -9])
def test_a_repeated_adjustment_gets_its_first_answer_and_is_done_once(delta):
    """Also when it was refused, and also when it could be done by now."""
    shelf = Shelf(tea=5)
    first = shelf.ask(adjust(delta=delta))
    shelf.ask(adjust(b"other".ljust(16), delta=20))
    assert kept(shelf.ask(adjust(delta=delta))) == first
    assert shelf.levels()[0] == 25 + max(delta, 0)


def test_a_repeated_key_with_another_body_is_refused():
    shelf = Shelf(tea=5)
    shelf.ask(adjust(delta=1))
    refusal = shelf.ask(adjust(fingerprint=b"g", delta=2))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "idempotency_key_reused"


@pytest.mark.parametrize("kind", ["adjustment", "product"])
def test_nobody_collects_answers_of_a_sku_without_end(kind):
    """Each is written again with the SKU's figures; a repeat is answered, and a day later there is room again."""
    shelf = Shelf(tea=5)

    def keyed(n: int) -> Any:
        key = n.to_bytes(16, "big")
        put = PutProduct(command_id=key, fingerprint=b"f", sku="tea", product=TEA)
        return put if kind == "product" else adjust(key, delta=1)

    replies = [shelf.ask(keyed(n)) for n in range(MOST_ANSWERS + 1)]
    assert not [reply for reply in replies[:-1] if isinstance(reply, Refusal)]
    assert replies[-1] == TOO_MANY
    assert kept(shelf.ask(keyed(0))) == replies[0]
    shelf.now_ms += KEYED_ANSWER_MS
    assert not isinstance(shelf.ask(keyed(MOST_ANSWERS)), Refusal)


def test_a_product_is_created_once_and_replaced_in_place():
    """The same facts again write nothing; other facts keep the stock."""
    shelf = Shelf(tea=5)
    new_price = Product("Tea", {"USD": 600})
    put = PutProduct(command_id=_ID, sku="tea", product=new_price)
    assert shelf.ask(put) == ProductStored("tea", new_price, False)
    assert shelf.ask(put) == ProductStored("tea", new_price, False, False)
    assert not stock.decide(shelf, put, shelf.now_ms).events
    assert shelf.ask(PutProduct(command_id=_ID, sku="hat", product=MUG)).created
    assert shelf.levels() == (5, 0, 0)


def test_a_product_put_under_a_key_is_put_once():
    """A late repeat gets the first answer and does not undo what was put since."""
    shelf = Shelf()
    put = PutProduct(command_id=_ID, fingerprint=b"f", sku="tea", product=TEA)
    first = shelf.ask(put)
    shelf.ask(PutProduct(command_id=b"other".ljust(16), sku="tea", product=MUG))
    assert kept(shelf.ask(put)) == first == ProductStored("tea", TEA, True)
    assert shelf.ask(Quote(command_id=_ID, accounts=("sku:tea",))).offers[0].product == MUG


def test_an_adjustment_says_what_it_moved():
    """And one that moves nothing, or is refused, writes nothing but the answer its key asks for."""
    shelf = Shelf(tea=5)
    moved = [shelf.ask(adjust(bytes([i]) * 16, set_to=count)).moved for i, count in enumerate((7, 7, 4))]
    assert moved == [2, 0, -3]
    unkeyed = Adjust(command_id=_ID, sku="tea", set_to=4)
    for change in ({}, {"set_to": None, "delta": -9}, {"sku": "hat"}):
        assert not stock.decide(shelf, msgspec.structs.replace(unkeyed, **change), shelf.now_ms).events


def test_a_claim_takes_a_key_for_one_body():
    """For its owner alone; what it stands for is kept elsewhere."""
    shelf = Shelf()
    claim = Claim(command_id=_ID, fingerprint=b"f", owner="c:ada")
    assert shelf.ask(claim) == Claimed()
    assert kept(shelf.ask(claim)) == Claimed()
    assert shelf.ask(msgspec.structs.replace(claim, fingerprint=b"g")) == KEY_REUSED
    assert shelf.ask(msgspec.structs.replace(claim, fingerprint=b"g", owner="c:bob")) == Claimed()


def test_claims_are_forgotten_after_a_day():
    """By the owner's next one, so that they do not pile up."""
    shelf = Shelf()
    for n in range(3):
        shelf.ask(Claim(command_id=bytes([n]) * 16, fingerprint=b"f", owner="c:ada"))
    shelf.now_ms += KEYED_ANSWER_MS
    shelf.ask(Claim(command_id=_ID, fingerprint=b"f", owner="c:ada"))
    assert [list(state.answers) for state in shelf.world.values()] == [[_ID]]


def test_a_quote_answers_for_known_and_unknown_accounts_in_the_order_asked():
    shelf = Shelf(tea=5)
    shelf.take(tea=2)
    assert shelf.ask(Quote(command_id=_ID, accounts=("sku:hat", "sku:tea"))) == Quotes(
        (Offer("sku:hat", None, 0), Offer("sku:tea", TEA, 3))
    )


@pytest.mark.parametrize("command", [adjust(delta=1), Inspect(command_id=_ID, sku="tea")])
def test_a_sku_that_does_not_exist_is_not_found(command):
    """Nor does it exist because that answer is kept."""
    shelf = Shelf()
    assert shelf.ask(adjust(delta=1)).code == "not_found"
    assert shelf.ask(msgspec.structs.replace(command, command_id=b"n" * 16)).code == "not_found"
    assert shelf.ask(PutProduct(command_id=_ID, sku="tea", product=TEA)).created
    assert kept(shelf.ask(adjust(delta=1))).code == "not_found"


def test_routes_lead_to_the_account_or_to_nobody_in_particular():
    """A command about one SKU goes to its owner; one about a hold is split by its sender."""
    assert stock.route(adjust(delta=1)) == "sku:tea"
    assert stock.route(Inspect(command_id=_ID, sku="a b")) == "sku:a b"
    assert stock.route(Claim(command_id=_ID, owner="c:ada")) == "claims:c:ada"
    assert stock.route(Pin(command_id=_ID, hold_id="h")) is None


def test_what_frees_or_finishes_something_is_always_admitted():
    """An overloaded owner refuses new work only."""
    for kind in (Confirm, Release, Unpin, Pin, GiveBack, Forget, Sweep, Trim, Extend):
        assert kind in stock.ALWAYS_ADMITTED
    assert not issubclass(Take, stock.ALWAYS_ADMITTED)
