-- A page of a shard's entities that recovery loads, in key order; of their older generations just the number.
-- $1 shard, $2 and $3 the last key, $4 page size.
SELECT kind, id, seq, state, crc, prev_seq
  FROM entity
 WHERE shard = $1 AND NOT resting AND (kind, id) > ($2, $3)
 ORDER BY kind, id
 LIMIT $4
