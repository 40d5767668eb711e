-- Columns come as one text each (persistence/columns.py). A client that sends an array looks at every element of it,
-- whether it is an array itself: a tenth of the processor time of whoever writes orders.

-- The texts of a column, each with a unit separator before it; a record separator alone stands for null.
CREATE FUNCTION parts(p_column text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (string_to_array(p_column, E'\x1f', E'\x1e'))[2:]
$$;

DROP FUNCTION append_flush;

-- As in 0006: the fence, the record, the snapshots that are due, and the rows that ride; false means fenced and nothing
-- was written. Texts are for parts(), numbers and truth values are arrays as Postgres writes them.
CREATE FUNCTION append_flush(
    p_shard text, p_epoch bigint, p_old_head bigint, p_tail bigint,
    p_at_ms bigint, p_count integer, p_events bytea, p_crc bigint,
    s_kind text, s_id text, s_state bytea[], s_crc text, s_resting text, s_new text,
    d_kind text, d_id text,
    o_order text, o_checkout text, o_number text, o_owner text, o_email text,
    o_currency text, o_total text, o_at text, o_body text, o_crc text,
    t_order text, t_version text, t_status text, t_payment text, t_at text, t_body text, t_new text,
    e_order text, e_n text, e_at text, e_actor text, e_type text, e_detail text,
    x_order text, x_n text, x_destination text, x_payload text,
    r_order text
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_seq bigint := p_old_head + 1;
    v_missing text;
    v_kinds text[]; v_ids text[]; v_crcs bigint[]; v_resting boolean[];
    v_orders text[]; v_versions integer[]; v_statuses text[]; v_payments text[]; v_ats bigint[]; v_bodies text[];
    v_new boolean[];
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

    IF s_id <> '' THEN
        v_kinds := parts(s_kind); v_ids := parts(s_id); v_crcs := s_crc; v_resting := s_resting; v_new := s_new;
        INSERT INTO entity (kind, id, shard, seq, state, crc, resting)
        SELECT kind, id, p_shard, v_seq, state, crc, resting
          FROM unnest(v_kinds, v_ids, s_state, v_crcs, v_resting, v_new) AS s(kind, id, state, crc, resting, new)
         WHERE new;
        INSERT INTO entity AS e (kind, id, shard, seq, state, crc, resting)
        SELECT kind, id, p_shard, v_seq, state, crc, resting
          FROM unnest(v_kinds, v_ids, s_state, v_crcs, v_resting, v_new) AS s(kind, id, state, crc, resting, new)
         WHERE NOT new
        ON CONFLICT (shard, kind, id) DO UPDATE SET
            seq = excluded.seq, state = excluded.state, crc = excluded.crc, resting = excluded.resting,
            -- Of what rests the journal is not kept: an older generation could not be brought up to date.
            prev_seq = CASE WHEN NOT excluded.resting THEN e.seq END,
            prev_state = CASE WHEN NOT excluded.resting THEN e.state END,
            prev_crc = CASE WHEN NOT excluded.resting THEN e.crc END;
    END IF;
    IF d_id <> '' THEN
        DELETE FROM entity e USING unnest(parts(d_kind), parts(d_id)) AS d(kind, id)
         WHERE e.shard = p_shard AND e.kind = d.kind AND e.id = d.id;
    END IF;

    IF r_order <> '' THEN
        SELECT r.id INTO v_missing FROM unnest(parts(r_order)) AS r(id)
         WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_id = r.id) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'there is no order %', v_missing USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    IF o_order <> '' THEN
        INSERT INTO orders (order_id, checkout_id, number, owner, email_hash, currency, total, placed_at, body, crc)
        SELECT o.id, checkout, number, owner, email, currency, total, to_timestamp(at::float8 / 1000), body::json, crc
          FROM unnest(parts(o_order), parts(o_checkout), parts(o_number), parts(o_owner), parts(o_email),
                      parts(o_currency), o_total::bigint[], o_at::bigint[], parts(o_body), o_crc::bigint[])
            AS o(id, checkout, number, owner, email, currency, total, at, body, crc);
    END IF;
    IF t_order <> '' THEN
        v_orders := parts(t_order); v_versions := t_version; v_statuses := parts(t_status);
        v_payments := parts(t_payment); v_ats := t_at; v_bodies := parts(t_body); v_new := t_new;
        INSERT INTO order_state (order_id, version, status, payment_status, updated_at, body)
        SELECT t.id, version, status, payment, to_timestamp(at::float8 / 1000), body::json
          FROM unnest(v_orders, v_versions, v_statuses, v_payments, v_ats, v_bodies, v_new)
            AS t(id, version, status, payment, at, body, new)
         WHERE new;
        INSERT INTO order_state (order_id, version, status, payment_status, updated_at, body)
        SELECT t.id, version, status, payment, to_timestamp(at::float8 / 1000), body::json
          FROM unnest(v_orders, v_versions, v_statuses, v_payments, v_ats, v_bodies, v_new)
            AS t(id, version, status, payment, at, body, new)
         WHERE NOT new
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, payment_status = excluded.payment_status,
            updated_at = excluded.updated_at, body = excluded.body;
    END IF;
    IF e_order <> '' THEN
        INSERT INTO order_event (order_id, n, at, actor, type, detail)
        SELECT e.id, n, to_timestamp(at::float8 / 1000), actor, type, detail::json
          FROM unnest(parts(e_order), e_n::integer[], e_at::bigint[], parts(e_actor), parts(e_type), parts(e_detail))
            AS e(id, n, at, actor, type, detail);
    END IF;
    IF x_order <> '' THEN
        INSERT INTO outbox (order_id, n, destination, payload)
        SELECT x.id, n, destination, payload::json
          FROM unnest(parts(x_order), x_n::integer[], parts(x_destination), parts(x_payload))
            AS x(id, n, destination, payload);
    END IF;
    RETURN true;
END $$;

DROP FUNCTION sandbox_add;

-- Writes a whole group of facts whose places and keys are all free, as they nearly always are; refuses the group if
-- one is not. The caller then asks sandbox_append, which looks before it writes.
CREATE FUNCTION sandbox_add(
    payment_ids text, ns text, ids text, types text, statuses text, codes text,
    authorization_ids text, checkout_ids text, amounts_minor text, currencies text, tokens text,
    idempotency_keys text, fingerprints bytea[], created_ats_ms text
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sandbox_ledger (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at
    )
    SELECT payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
           idempotency_key, fingerprint, to_timestamp(created_at_ms::float8 / 1000)
    FROM unnest(
        parts(payment_ids), ns::integer[], parts(ids), parts(types), parts(statuses), parts(codes),
        parts(authorization_ids), parts(checkout_ids), amounts_minor::bigint[], parts(currencies), parts(tokens),
        parts(idempotency_keys), fingerprints, created_ats_ms::bigint[]
    ) AS new (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at_ms
    )
$$;
