-- A page of one owner's orders, newest first. $1 owner, $2 the order the page before ended with, or null, $3 size.
-- ('p' sorts after every order's id, which keeps the condition one range of the index.)
SELECT o.order_id, o.number, o.owner, o.currency,
       (extract(epoch FROM o.placed_at) * 1000)::bigint AS placed_at_ms,
       s.status, s.payment_status, o.body::text AS body, s.body::text AS state
  FROM orders o JOIN order_state s USING (order_id)
 WHERE o.owner = $1 AND o.order_id < coalesce($2, 'p')
 ORDER BY o.order_id DESC
 LIMIT $3
