-- The gateway's book on some payments, fact by fact. $1 payments.
SELECT payment_id, n, type, status, amount_minor, currency, checkout_id
  FROM sandbox_ledger
 WHERE payment_id = ANY ($1)
 ORDER BY payment_id, n
