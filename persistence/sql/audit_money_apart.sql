-- Payments by which the gateway holds somebody's money, captured or authorized, and which no order names.
-- Captured ones have no excuse; open authorizations may belong to a checkout that is still being paid.
WITH payment AS (
    SELECT payment_id, max(checkout_id) AS checkout_id, max(currency) AS currency,
           coalesce(sum(amount_minor) FILTER (WHERE type = 'capture'), 0)
           - coalesce(sum(amount_minor) FILTER (WHERE type = 'refund'), 0) AS captured,
           bool_or(type IN ('authorization', 'resolution')) AS authorized,
           bool_or(type IN ('capture', 'void')) AS spent
      FROM sandbox_ledger
     WHERE status = 'succeeded'
     GROUP BY payment_id
), named AS (
    SELECT payment->>0 AS payment_id
      FROM orders o,
           json_array_elements(CASE json_typeof(o.body->'payments') WHEN 'array' THEN o.body->'payments' END) AS payment
)
SELECT payment_id, checkout_id, currency, captured::bigint AS captured
  FROM payment
 WHERE (captured > 0 OR authorized AND NOT spent)
   AND NOT EXISTS (SELECT FROM named WHERE named.payment_id = payment.payment_id)
