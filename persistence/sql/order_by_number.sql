-- The order that a person knows by its number and the e-mail address it was placed with, the newest should two
-- numbers ever be the same. $1 number, $2 hash of the address.
SELECT o.order_id, o.number, o.owner, o.currency,
       (extract(epoch FROM o.placed_at) * 1000)::bigint AS placed_at_ms,
       s.status, s.payment_status, o.body::text AS body, s.body::text AS state
  FROM orders o JOIN order_state s USING (order_id)
 WHERE o.number = $1 AND o.email_hash = $2
 ORDER BY o.order_id DESC
 LIMIT 1
