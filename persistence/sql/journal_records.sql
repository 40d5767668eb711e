-- A shard's records from a sequence number on, in order. $1 shard, $2 first.
SELECT seq, at_ms, events, crc FROM journal WHERE shard = $1 AND seq >= $2 ORDER BY seq
