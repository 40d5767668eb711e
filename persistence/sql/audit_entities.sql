-- Every entity of a shard, awake or resting, with both generations. $1 shard.
SELECT kind, id, seq, state, crc, prev_seq, prev_state, prev_crc, resting FROM entity WHERE shard = $1
