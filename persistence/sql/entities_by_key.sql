-- The entities of these keys that a shard has stored. $1 shard, $2 kinds, $3 ids.
SELECT e.kind, e.id, seq, state, crc, prev_seq, prev_state, prev_crc, resting
  FROM unnest($2::text[], $3::text[]) AS k(kind, id)
  JOIN entity e ON e.shard = $1 AND e.kind = k.kind AND e.id = k.id
