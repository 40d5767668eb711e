-- Orders whose checkout has no snapshot, or none that can be read. $1 keys of checkouts with a damaged snapshot,
-- $2 keys of checkouts that are in the journal alone. (A checkout's key is the last 16 characters of its id.)
SELECT o.order_id, o.checkout_id
  FROM orders o
 WHERE right(o.checkout_id, 16) = ANY ($1)
    OR right(o.checkout_id, 16) <> ALL ($2)
       AND NOT EXISTS (SELECT FROM entity e WHERE e.kind = 'checkout' AND e.id = right(o.checkout_id, 16))
