-- A page of an order's audit trail, oldest first. $1 order, $2 the last entry of the page before, $3 size.
SELECT n, (extract(epoch FROM at) * 1000)::bigint AS at_ms, actor, type, detail::text AS detail
  FROM order_event
 WHERE order_id = $1 AND n > $2
 ORDER BY n
 LIMIT $3
