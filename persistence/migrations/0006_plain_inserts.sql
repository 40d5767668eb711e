-- What is new is inserted as new. An upsert looks for every row before it writes it, and logs each twice; a foreign
-- key locks the order once for every row that names it. Together they were a third of an order's cost here.

-- Orders are never deleted, so that it is enough to look whether they are there (see append_flush): no lock is needed.
ALTER TABLE order_state DROP CONSTRAINT order_state_order_id_fkey;
ALTER TABLE order_event DROP CONSTRAINT order_event_order_id_fkey;

-- Each of its rows is rewritten soon after it was made, when the payment has been captured: room for that on its page.
ALTER TABLE order_state SET (fillfactor = 50);

DROP FUNCTION append_flush;

-- One flush: the fence, the record, the snapshots that are due, and the rows that ride. One statement for the
-- client, one transaction here; false means fenced and nothing was written. `p_tail` cuts the journal.
--
-- `s_new`, `t_new`: the caller says that there is no such row yet; if there is one, all is refused. `r_order` are the
-- orders that rows refer to and that do not come with this flush. The plans are made and kept while tables may be
-- empty, where a sequential scan looks best; hence the setting.
CREATE FUNCTION append_flush(
    p_shard text, p_epoch bigint, p_old_head bigint, p_tail bigint,
    p_at_ms bigint, p_count integer, p_events bytea, p_crc bigint,
    s_kind text[], s_id text[], s_state bytea[], s_crc bigint[], s_resting boolean[], s_new boolean[],
    d_kind text[], d_id text[],
    o_order text[], o_checkout text[], o_number text[], o_owner text[], o_email text[],
    o_currency text[], o_total bigint[], o_at bigint[], o_body text[], o_crc bigint[],
    t_order text[], t_version integer[], t_status text[], t_payment text[], t_at bigint[], t_body text[],
    t_new boolean[],
    e_order text[], e_n integer[], e_at bigint[], e_actor text[], e_type text[], e_detail text[],
    x_order text[], x_n integer[], x_destination text[], x_payload text[],
    r_order text[]
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_seq bigint := p_old_head + 1;
    v_missing text;
BEGIN
    UPDATE shard SET head = v_seq, tail = greatest(tail, p_tail)
     WHERE id = p_shard AND epoch = p_epoch AND head = p_old_head;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    INSERT INTO journal VALUES (p_shard, v_seq, p_epoch, p_at_ms, p_count, p_events, p_crc);
    IF p_tail > 0 THEN
        DELETE FROM journal WHERE journal.shard = p_shard AND journal.seq < p_tail;
    END IF;

    IF cardinality(s_id) > 0 THEN
        INSERT INTO entity (kind, id, shard, seq, state, crc, resting)
        SELECT kind, id, p_shard, v_seq, state, crc, resting
          FROM unnest(s_kind, s_id, s_state, s_crc, s_resting, s_new) AS s(kind, id, state, crc, resting, new)
         WHERE new;
        INSERT INTO entity AS e (kind, id, shard, seq, state, crc, resting)
        SELECT kind, id, p_shard, v_seq, state, crc, resting
          FROM unnest(s_kind, s_id, s_state, s_crc, s_resting, s_new) AS s(kind, id, state, crc, resting, new)
         WHERE NOT new
        ON CONFLICT (shard, kind, id) DO UPDATE SET
            seq = excluded.seq, state = excluded.state, crc = excluded.crc, resting = excluded.resting,
            -- Of what rests the journal is not kept: an older generation could not be brought up to date.
            prev_seq = CASE WHEN NOT excluded.resting THEN e.seq END,
            prev_state = CASE WHEN NOT excluded.resting THEN e.state END,
            prev_crc = CASE WHEN NOT excluded.resting THEN e.crc END;
    END IF;
    IF cardinality(d_id) > 0 THEN
        DELETE FROM entity e USING unnest(d_kind, d_id) AS d(kind, id)
         WHERE e.shard = p_shard AND e.kind = d.kind AND e.id = d.id;
    END IF;

    IF cardinality(r_order) > 0 THEN
        SELECT r.id INTO v_missing FROM unnest(r_order) AS r(id)
         WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_id = r.id) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'there is no order %', v_missing USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    IF cardinality(o_order) > 0 THEN
        INSERT INTO orders (order_id, checkout_id, number, owner, email_hash, currency, total, placed_at, body, crc)
        SELECT o.id, checkout, number, owner, email, currency, total, to_timestamp(at::float8 / 1000), body::json, crc
          FROM unnest(o_order, o_checkout, o_number, o_owner, o_email, o_currency, o_total, o_at, o_body, o_crc)
            AS o(id, checkout, number, owner, email, currency, total, at, body, crc);
    END IF;
    IF cardinality(t_order) > 0 THEN
        INSERT INTO order_state (order_id, version, status, payment_status, updated_at, body)
        SELECT t.id, version, status, payment, to_timestamp(at::float8 / 1000), body::json
          FROM unnest(t_order, t_version, t_status, t_payment, t_at, t_body, t_new)
            AS t(id, version, status, payment, at, body, new)
         WHERE new;
        INSERT INTO order_state (order_id, version, status, payment_status, updated_at, body)
        SELECT t.id, version, status, payment, to_timestamp(at::float8 / 1000), body::json
          FROM unnest(t_order, t_version, t_status, t_payment, t_at, t_body, t_new)
            AS t(id, version, status, payment, at, body, new)
         WHERE NOT new
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, payment_status = excluded.payment_status,
            updated_at = excluded.updated_at, body = excluded.body;
    END IF;
    IF cardinality(e_order) > 0 THEN
        INSERT INTO order_event (order_id, n, at, actor, type, detail)
        SELECT e.id, n, to_timestamp(at::float8 / 1000), actor, type, detail::json
          FROM unnest(e_order, e_n, e_at, e_actor, e_type, e_detail) AS e(id, n, at, actor, type, detail);
    END IF;
    IF cardinality(x_order) > 0 THEN
        INSERT INTO outbox (order_id, n, destination, payload)
        SELECT x.id, n, destination, payload::json
          FROM unnest(x_order, x_n, x_destination, x_payload) AS x(id, n, destination, payload);
    END IF;
    RETURN true;
END $$;

-- Writes a whole group of facts whose places and keys are all free, as they nearly always are; refuses the group if
-- one is not. The caller then asks sandbox_append, which looks before it writes.
CREATE FUNCTION sandbox_add(
    payment_ids text[], ns integer[], ids text[], types text[], statuses text[], codes text[],
    authorization_ids text[], checkout_ids text[], amounts_minor bigint[], currencies text[], tokens text[],
    idempotency_keys text[], fingerprints bytea[], created_ats_ms bigint[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sandbox_ledger (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at
    )
    SELECT payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
           idempotency_key, fingerprint, to_timestamp(created_at_ms::float8 / 1000)
    FROM unnest(
        payment_ids, ns, ids, types, statuses, codes, authorization_ids, checkout_ids, amounts_minor, currencies,
        tokens, idempotency_keys, fingerprints, created_ats_ms
    ) AS new (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at_ms
    )
$$;
