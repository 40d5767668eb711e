-- All rows of some orders, found by either of their names, lest one be changed. $1 checkouts, $2 orders.
SELECT o.order_id, o.checkout_id, o.number, o.owner, o.email_hash, o.currency, o.total,
       (extract(epoch FROM o.placed_at) * 1000)::bigint AS placed_at_ms, o.body::text AS body, o.crc,
       s.version, s.status, s.payment_status, s.body::text AS state,
       ARRAY(SELECT e.n FROM order_event e WHERE e.order_id = o.order_id ORDER BY e.n) AS entries
  FROM orders o LEFT JOIN order_state s USING (order_id)
 WHERE o.checkout_id = ANY ($1) OR o.order_id = ANY ($2)
