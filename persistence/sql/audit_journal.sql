-- A shard's records that are kept, in order. $1 shard, $2 tail.
SELECT seq, at_ms, count, events, crc FROM journal WHERE shard = $1 AND seq >= $2 ORDER BY seq
