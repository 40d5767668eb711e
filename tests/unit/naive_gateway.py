"""A payment gateway in its simplest terms: what it has of each payment, and what it answered to each key."""

from __future__ import annotations

from domain.payments import (
    Accepted,
    ActionRequired,
    Authorize,
    Capture,
    Declined,
    GatewayRequest,
    NotNow,
    Outcome,
    Refund,
    Retrieve,
    Retrieved,
    Unknown,
    Void,
)


class Gateway:
    """Remembers every key's answer; ``faults`` are taken one a call: `before`, `after`, `late`, `busy`.

    `before`: silence, nothing happened. `after`: silence, it happened. `late`: silence, it happens when told.
    """

    def __init__(self) -> None:
        self.found: dict[str, Retrieved] = {}
        self.keys: dict[str, Outcome] = {}
        self.log: list[tuple[str, str, int]] = []
        self.faults: list[str] = []
        self.late: list[GatewayRequest] = []
        self.refuse: set[str] = set()

    def call(self, request: GatewayRequest) -> Outcome:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "busy":
            return NotNow(100, "rate_limit")
        if fault == "late" and not isinstance(request, Retrieve):
            self.late.append(request)
        if fault in ("before", "late"):
            return Unknown("no_answer")
        outcome = self.do(request)
        return Unknown("no_answer") if fault == "after" else outcome

    def do(self, request: GatewayRequest) -> Outcome:
        now = self.found.get(request.payment_id, Retrieved("none"))
        if isinstance(request, Retrieve):
            return now
        key = request.idempotency_key
        if key not in self.keys:
            self.keys[key] = self._judge(now, request)
        return self.keys[key]

    def _judge(self, now: Retrieved, request: Authorize | Capture | Void | Refund) -> Outcome:
        verb = type(request).__name__.lower()
        if verb in self.refuse:
            return Declined(f"{verb}_refused", False)
        match request:
            case Authorize():
                return self._authorize(now, request)
            case Capture() if now.state == "authorized":
                return self._book(request, Retrieved("captured", captured_minor=request.amount_minor))
            case Void() if now.state not in ("captured", "refunded"):
                return self._book(request, Retrieved("voided"))
            case Refund() if now.state == "captured":
                return self._book(
                    request, Retrieved("refunded", captured_minor=now.captured_minor, refunded_minor=now.captured_minor)
                )
            case _:
                return Declined(f"already_{now.state}", False)

    def _authorize(self, now: Retrieved, request: Authorize) -> Outcome:
        if now.state != "none":
            return Declined(f"already_{now.state}", False)
        match request.token:
            case "ok":
                return self._book(request, Retrieved("authorized", authorized_minor=request.amount_minor))
            case "3ds":
                self.found[request.payment_id] = Retrieved("requires_action", next_action={"type": "redirect"})
                return ActionRequired("ref", {"type": "redirect"})
            case _:
                self.found[request.payment_id] = Retrieved("declined", decline_code="card_declined", retryable=True)
                return Declined("card_declined", True)

    def _book(self, request: Authorize | Capture | Void | Refund, found: Retrieved) -> Accepted:
        self.found[request.payment_id] = found
        amount = found.authorized_minor or found.captured_minor
        self.log.append((type(request).__name__.lower(), request.payment_id, amount))
        return Accepted(f"ref_{request.payment_id}")

    def buyer_acts(self, payment_id: str, succeed: bool) -> None:
        if self.found[payment_id].state == "requires_action":
            state = "authorized" if succeed else "declined"
            self.found[payment_id] = Retrieved(state, decline_code="authentication_failed")  # type: ignore[arg-type]

    def state(self, payment_id: str) -> str:
        return self.found.get(payment_id, Retrieved("none")).state

    def net(self, payment_id: str) -> int:
        """What the buyer has paid and not got back."""
        signs = {"capture": 1, "refund": -1}
        return sum(signs.get(verb, 0) * amount for verb, of, amount in self.log if of == payment_id)
