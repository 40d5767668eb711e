-- Who was overtaken and looks what became of a lost statement must not take the shard from its heir: an owner that
-- names the epoch it holds takes the next one only if nobody else has.
DROP FUNCTION take_shard;

-- Take a shard over: nobody who holds an older epoch can append from here on. With `p_held`, only from oneself.
CREATE FUNCTION take_shard(p_shard text, p_held bigint DEFAULT NULL)
RETURNS TABLE (epoch bigint, head bigint, tail bigint) LANGUAGE sql AS $$
    UPDATE shard SET epoch = shard.epoch + 1, taken_at = now()
     WHERE id = p_shard AND (p_held IS NULL OR shard.epoch = p_held)
    RETURNING shard.epoch, shard.head, shard.tail
$$;
