-- How some orders stand. $1 orders.
SELECT order_id, version, status, payment_status, body::text AS state FROM order_state WHERE order_id = ANY ($1)
