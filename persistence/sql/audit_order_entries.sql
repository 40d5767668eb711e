-- Which entries the audit trails of some orders have. $1 orders.
SELECT order_id, n FROM order_event WHERE order_id = ANY ($1) ORDER BY order_id, n
