-- One order as it stands. $1 its id; $2 the owners it must belong to one of, null for whosever it is.
SELECT o.order_id, o.number, o.owner, o.currency,
       (extract(epoch FROM o.placed_at) * 1000)::bigint AS placed_at_ms,
       s.status, s.payment_status, o.body::text AS body, s.body::text AS state
  FROM orders o JOIN order_state s USING (order_id)
 WHERE o.order_id = $1 AND ($2::text[] IS NULL OR o.owner = ANY ($2))
