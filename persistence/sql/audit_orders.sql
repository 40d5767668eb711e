-- What was confirmed of some orders, found by either of their names, lest one be changed. $1 checkouts, $2 orders.
SELECT order_id, checkout_id, number, owner, email_hash, currency, total,
       (extract(epoch FROM placed_at) * 1000)::bigint AS placed_at_ms, body::text AS body, crc
  FROM orders
 WHERE checkout_id = ANY ($1) OR order_id = ANY ($2)
