"""What can happen to a shop's database, and what the audit must then say: a table, a row each.

The database is one that `tests/integration/test_audit.py` fills; the statements need its owner's rights.
"""

from __future__ import annotations

from typing import NamedTuple


class Damage(NamedTuple):
    """What is done to the database, and what the audit must say: exactly these codes, about this subject."""

    name: str
    statements: str  # the last one returns the subject
    codes: set[str]


# The order that is harmed, and its first payment.
ORDER = "(SELECT order_id FROM order_state WHERE status = 'confirmed' ORDER BY order_id LIMIT 1)"
PAYMENT = f"(SELECT payment_id FROM order_payment WHERE order_id = {ORDER} ORDER BY amount DESC LIMIT 1)"
CANCELED = "(SELECT payment_id FROM order_payment p JOIN order_state s USING (order_id) WHERE s.status = 'canceled')"
CAPTURE = f"payment_id = {PAYMENT} AND type = 'capture'"
COPY = """INSERT INTO sandbox_ledger (payment_id, n, id, type, status, code, checkout_id, amount_minor,
                            currency, token, fingerprint, created_at)
    SELECT {payment}, {n}, id || 'x', type, status, code, checkout_id, amount_minor, currency,
           token, fingerprint, created_at FROM sandbox_ledger WHERE {where} RETURNING payment_id"""

DAMAGES = [
    # Orders.
    Damage(
        "an order's total is changed",
        f"UPDATE orders SET total = total - 1 WHERE order_id = {ORDER} RETURNING order_id",
        {"order_altered", "order_totals_wrong"},
    ),
    Damage(
        "an order's owner is changed",
        f"UPDATE orders SET owner = 'g:somebody' WHERE order_id = {ORDER} RETURNING order_id",
        {"order_altered"},
    ),
    Damage(
        "a line of an order is changed",
        "UPDATE orders SET body = replace(body::text, '\"The A\"', '\"The Z\"')::json"
        f" WHERE order_id = {ORDER} RETURNING order_id",
        {"order_altered"},
    ),
    Damage(
        "the body of an order is rubbish",
        f"UPDATE orders SET body = '{{\"payments\": 7}}' WHERE order_id = {ORDER} RETURNING order_id",
        {"order_altered"},
    ),
    Damage(
        "an order is deleted with all its rows",
        f"CREATE TEMP TABLE victim AS SELECT {ORDER} AS id;"
        "DELETE FROM order_event WHERE order_id IN (SELECT id FROM victim);"
        "DELETE FROM order_state WHERE order_id IN (SELECT id FROM victim);"
        "DELETE FROM orders WHERE order_id IN (SELECT id FROM victim) RETURNING order_id",
        {"order_missing"},
    ),
    Damage(
        "an order is deleted alone",
        f"DELETE FROM orders WHERE order_id = {ORDER} RETURNING order_id",
        {"order_missing"},
    ),
    Damage(
        "an order is made up",
        "INSERT INTO orders SELECT 'ord_x', 'chk_0123456789aaaaaaaaaaaaaaaa', number, owner, email_hash,"
        f" currency, total, placed_at, body, crc FROM orders WHERE order_id = {ORDER} RETURNING order_id",
        {"order_unknown", "order_altered", "order_state_missing", "order_event_missing"},
    ),
    Damage(
        "an order's state says something else",
        f"UPDATE order_state SET status = 'shipped' WHERE order_id = {ORDER} RETURNING order_id",
        {"order_state_altered"},
    ),
    Damage(
        "a payment in an order's state says something else",
        "UPDATE order_state SET body = replace(body::text, '\"captured\"', '\"refunded\"')::json"
        f" WHERE order_id = {ORDER} RETURNING order_id",
        {"order_state_altered"},
    ),
    Damage(
        "an order's state is gone",
        f"DELETE FROM order_state WHERE order_id = {ORDER} RETURNING order_id",
        {"order_state_missing"},
    ),
    Damage(
        "an entry of an audit trail is gone",
        f"DELETE FROM order_event WHERE order_id = {ORDER} AND n = 2 RETURNING order_id",
        {"order_event_missing"},
    ),
    Damage(
        "an entry of an audit trail is made up",
        "INSERT INTO order_event SELECT order_id, 99, at, actor, type, detail FROM order_event"
        f" WHERE order_id = {ORDER} AND n = 1 RETURNING order_id",
        {"order_event_unexpected"},
    ),
    # Money.
    Damage(
        "a capture is doubled",
        "DROP INDEX sandbox_ledger_spent_once;" + COPY.format(payment="payment_id", n="n + 1", where=CAPTURE),
        {"captured_twice"},
    ),
    Damage(
        "a capture is doubled under another payment",
        COPY.format(payment="'pay_x'", n="1", where=CAPTURE),
        {"capture_without_order"},
    ),
    Damage(
        "a capture is deleted",
        f"DELETE FROM sandbox_ledger WHERE {CAPTURE} RETURNING payment_id",
        {"capture_missing"},
    ),
    Damage(
        "a capture is of less",
        f"UPDATE sandbox_ledger SET amount_minor = amount_minor - 1 WHERE {CAPTURE} RETURNING payment_id",
        {"payment_amount_mismatch"},
    ),
    Damage(
        "a capture is of more than was authorized",
        f"UPDATE sandbox_ledger SET amount_minor = amount_minor + 1 WHERE {CAPTURE} RETURNING payment_id",
        {"payment_amount_mismatch", "captured_too_much"},
    ),
    Damage(
        "a payment is in another currency",
        f"UPDATE sandbox_ledger SET currency = 'EUR' WHERE payment_id = {PAYMENT} RETURNING payment_id",
        {"payment_currency_mismatch"},
    ),
    Damage(
        "a payment is of another checkout",
        f"UPDATE sandbox_ledger SET checkout_id = 'chk_x' WHERE payment_id = {PAYMENT} RETURNING payment_id",
        {"payment_checkout_mismatch"},
    ),
    Damage(
        "an authorization is deleted",
        f"DELETE FROM sandbox_ledger WHERE payment_id = {PAYMENT} AND n = 1 RETURNING payment_id",
        {"book_entry_missing", "captured_too_much", "payment_amount_mismatch"},
    ),
    Damage(
        "a refund is deleted",
        f"DELETE FROM sandbox_ledger WHERE payment_id = {CANCELED} AND type = 'refund' RETURNING payment_id",
        {"refund_missing"},
    ),
    Damage(
        "a refund is of more than was captured",
        "UPDATE sandbox_ledger SET amount_minor = amount_minor + 1"
        f" WHERE payment_id = {CANCELED} AND type = 'refund' RETURNING payment_id",
        {"refunded_too_much", "payment_amount_mismatch"},
    ),
    Damage(
        "a declined payment is authorized after all",
        "UPDATE sandbox_ledger SET status = 'succeeded' WHERE payment_id ="
        " (SELECT max(payment_id) FROM sandbox_ledger WHERE status = 'declined') RETURNING payment_id",
        {"authorization_open"},
    ),
    Damage(
        "money is authorized that nobody asked for",
        COPY.format(
            payment="'pay_x'",
            n="1",
            where=f"payment_id = {PAYMENT} AND type = 'authorization'",
        ),
        {"authorization_unknown"},
    ),
    # The journal.
    Damage(
        "a record in the middle of a journal is cut",
        "DELETE FROM journal WHERE shard = 'cart-0' AND seq = 2 RETURNING 'cart-0:2'",
        {"journal_record_missing"},
    ),
    Damage(
        "the last record of a journal is cut",
        "DELETE FROM journal j USING shard s WHERE j.shard = s.id AND s.id = 'stock-0' AND seq = head"
        " RETURNING 'stock-0:' || seq",
        {"journal_record_missing"},
    ),
    Damage(
        "a journal's head is put back",
        "UPDATE shard SET head = head - 1 WHERE id = 'cart-0' RETURNING 'cart-0:' || (head + 1)",
        {"journal_record_unexpected"},
    ),
    Damage(
        "a bit of a record is flipped",
        "UPDATE journal SET events = set_bit(events, 77, 1 - get_bit(events, 77))"
        " WHERE shard = 'checkout-0' AND seq = 5 RETURNING 'checkout-0:5'",
        {"journal_record_damaged"},
    ),
    Damage(
        "a record is of another time",
        "UPDATE journal SET at_ms = at_ms - 3600000 WHERE shard = 'cart-0' AND seq = 2 RETURNING 'cart-0:2'",
        {"journal_record_damaged"},
    ),
    Damage(
        "a record is replaced by its neighbour",
        "UPDATE journal SET events = (SELECT events FROM journal WHERE shard = 'stock-0' AND seq = 4)"
        " WHERE shard = 'stock-0' AND seq = 5 RETURNING 'stock-0:5'",
        {"journal_record_damaged"},
    ),
    # Snapshots.
    Damage(
        "a bit of a snapshot is flipped",
        "UPDATE entity SET state = set_bit(state, 9, 1 - get_bit(state, 9))"
        " WHERE kind = 'account' AND id = 'sku:A' RETURNING 'account/sku:A'",
        {"snapshot_damaged"},
    ),
    Damage(
        "both generations of a snapshot are torn",
        "UPDATE entity SET state = substr(state, 1, 5), prev_state = substr(prev_state, 1, 5)"
        " WHERE kind = 'account' AND id = 'sku:A' RETURNING 'account/sku:A'",
        {"snapshot_damaged"},
    ),
]
