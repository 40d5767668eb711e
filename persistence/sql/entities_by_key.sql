-- The entities of these keys, as far as they are stored. $1 kinds, $2 ids.
SELECT e.kind, e.id, seq, state, crc, prev_seq, prev_state, prev_crc, resting
  FROM unnest($1::text[], $2::text[]) AS k(kind, id)
  JOIN entity e ON e.kind = k.kind AND e.id = k.id
