-- Every shard, and when it was last taken over. Kinds in the order in which an audit needs them: what stock says
-- is compared with checkouts.
SELECT id, kind, head, tail, (extract(epoch FROM taken_at) * 1000)::bigint AS taken_at_ms
  FROM shard
 ORDER BY array_position(ARRAY['stock', 'checkout'], kind), id
