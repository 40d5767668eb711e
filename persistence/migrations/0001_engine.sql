-- The engine: who owns what, the journals, the entities' snapshots, and the orders for people and programs.

-- One row per shard. `epoch` is raised by whoever takes the shard over; `head` is the last journaled sequence
-- number; `tail` the first one that is still kept. Every append is conditional on (epoch, head): that is the fence.
CREATE TABLE shard (
    id          text        PRIMARY KEY,
    kind        text        NOT NULL,
    epoch       bigint      NOT NULL DEFAULT 0,
    head        bigint      NOT NULL DEFAULT 0,
    tail        bigint      NOT NULL DEFAULT 1,
    taken_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- 1,024 slots per kind; a key's slot is fixed, its shard is what this table says.
CREATE TABLE slot (
    kind        text        NOT NULL,
    slot        smallint    NOT NULL CHECK (slot BETWEEN 0 AND 1023),
    shard       text        NOT NULL REFERENCES shard,
    PRIMARY KEY (kind, slot)
);

-- Single keys that live elsewhere than their slot says (a hot SKU with an actor of its own).
CREATE TABLE slot_override (
    kind        text        NOT NULL,
    key         text        NOT NULL,
    shard       text        NOT NULL REFERENCES shard,
    PRIMARY KEY (kind, key)
);

-- One record per flush: the events of all commands that were answered together.
CREATE TABLE journal (
    shard       text        NOT NULL,
    seq         bigint      NOT NULL,
    epoch       bigint      NOT NULL,
    at_ms       bigint      NOT NULL,
    count       integer     NOT NULL,
    events      bytea STORAGE EXTERNAL NOT NULL,
    crc         bigint      NOT NULL,
    PRIMARY KEY (shard, seq)
);

-- The state of one entity as of journal record `seq`, and of one older record: two generations, so that a
-- damaged snapshot is replaced by the older one and the journal since.
CREATE TABLE entity (
    kind        text        NOT NULL,
    id          text        NOT NULL,
    shard       text        NOT NULL,
    seq         bigint      NOT NULL,
    state       bytea       NOT NULL,
    crc         bigint      NOT NULL,
    prev_seq    bigint,
    prev_state  bytea,
    prev_crc    bigint,
    resting     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (shard, kind, id)
) WITH (fillfactor = 70);
-- Recovery loads what is awake; what rests is loaded when somebody asks for it.
CREATE INDEX entity_awake ON entity (shard) WHERE NOT resting;

CREATE TABLE orders (
    order_id    text        PRIMARY KEY,
    checkout_id text        NOT NULL UNIQUE,
    number      text        NOT NULL,
    owner       text        NOT NULL,
    email_hash  text        NOT NULL,
    currency    text        NOT NULL,
    total       bigint      NOT NULL CHECK (total >= 0),
    placed_at   timestamptz NOT NULL,
    body        json        NOT NULL,
    crc         bigint      NOT NULL
);
CREATE INDEX orders_by_owner ON orders (owner, order_id DESC);
CREATE INDEX orders_by_number ON orders (number);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % never changes', TG_TABLE_NAME;
END $$;
CREATE TRIGGER orders_are_immutable BEFORE UPDATE OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE order_state (
    order_id        text        PRIMARY KEY REFERENCES orders,
    version         integer     NOT NULL,
    status          text        NOT NULL CHECK (status IN ('pending','confirmed','shipped','delivered','canceled')),
    payment_status  text        NOT NULL CHECK (payment_status IN ('authorized','paid','refunded','voided')),
    updated_at      timestamptz NOT NULL,
    body            json        NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE order_event (
    order_id    text        NOT NULL REFERENCES orders,
    n           integer     NOT NULL,
    at          timestamptz NOT NULL,
    actor       text        NOT NULL,
    type        text        NOT NULL,
    detail      json        NOT NULL,
    PRIMARY KEY (order_id, n)
);
CREATE TRIGGER order_events_are_immutable BEFORE UPDATE OR DELETE ON order_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What other systems are to be told. A relay claims rows and deletes them; nothing reads "id > last".
CREATE TABLE outbox (
    order_id    text        NOT NULL,
    n           integer     NOT NULL,
    destination text        NOT NULL,
    payload     json        NOT NULL,
    due_at      timestamptz NOT NULL DEFAULT now(),
    tries       integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, n, destination)
);

-- For people: an order's lines and money as columns. Arrays are positional; the names are given here.
CREATE VIEW order_line AS
SELECT o.order_id, o.placed_at, s.status, o.currency,
       line->>0 AS line_id, line->>1 AS sku, line->>2 AS title, (line->>3)::integer AS quantity,
       (line->>4)::bigint AS unit_price, (line->>5)::bigint AS amount
FROM orders o JOIN order_state s USING (order_id), json_array_elements(o.body->'line_items') AS line;

CREATE VIEW order_total AS
SELECT o.order_id, o.currency, entry->>0 AS type, (entry->>1)::bigint AS amount
FROM orders o, json_array_elements(o.body->'totals') AS entry;

CREATE VIEW order_payment AS
SELECT s.order_id, payment->>0 AS payment_id, payment->>1 AS method, payment->>2 AS status,
       (payment->>3)::bigint AS amount, payment->>4 AS gateway
FROM order_state s, json_array_elements(s.body->'payments') AS payment;

-- Take a shard over: nobody who holds an older epoch can append from here on.
CREATE FUNCTION take_shard(p_shard text)
RETURNS TABLE (epoch bigint, head bigint, tail bigint) LANGUAGE sql AS $$
    UPDATE shard SET epoch = shard.epoch + 1, taken_at = now() WHERE id = p_shard
    RETURNING shard.epoch, shard.head, shard.tail
$$;

-- One flush: the fence, the record, the snapshots that are due, and the rows that ride. One statement for the
-- client, one transaction here; false means fenced and nothing was written. `p_tail` cuts the journal.
-- Returns null for "fenced", else the ids of orders that were already there (never the case when all is well).
CREATE FUNCTION append_flush(
    p_shard text, p_epoch bigint, p_old_head bigint, p_tail bigint,
    p_at_ms bigint, p_count integer, p_events bytea, p_crc bigint,
    s_kind text[], s_id text[], s_state bytea[], s_crc bigint[], s_resting boolean[],
    d_kind text[], d_id text[],
    o_order text[], o_checkout text[], o_number text[], o_owner text[], o_email text[],
    o_currency text[], o_total bigint[], o_at bigint[], o_body text[], o_crc bigint[],
    t_order text[], t_version integer[], t_status text[], t_payment text[], t_at bigint[], t_body text[],
    e_order text[], e_n integer[], e_at bigint[], e_actor text[], e_type text[], e_detail text[],
    x_order text[], x_n integer[], x_destination text[], x_payload text[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    placed text[] := '{}';
    v_seq bigint := p_old_head + 1;
BEGIN
    UPDATE shard SET head = p_old_head + 1, tail = greatest(tail, p_tail)
     WHERE id = p_shard AND epoch = p_epoch AND head = p_old_head;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    INSERT INTO journal VALUES (p_shard, v_seq, p_epoch, p_at_ms, p_count, p_events, p_crc);
    IF p_tail > 0 THEN
        DELETE FROM journal WHERE journal.shard = p_shard AND journal.seq < p_tail;
    END IF;

    IF cardinality(s_id) > 0 THEN
        INSERT INTO entity AS e (kind, id, shard, seq, state, crc, resting)
        SELECT kind, id, p_shard, v_seq, state, crc, resting
          FROM unnest(s_kind, s_id, s_state, s_crc, s_resting) AS s(kind, id, state, crc, resting)
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

    IF cardinality(o_order) > 0 THEN
        WITH inserted AS (
            INSERT INTO orders (order_id, checkout_id, number, owner, email_hash, currency, total, placed_at, body, crc)
            SELECT o.id, checkout, number, owner, email, currency, total, to_timestamp(at / 1000.0), body::json, crc
              FROM unnest(o_order, o_checkout, o_number, o_owner, o_email, o_currency, o_total, o_at, o_body, o_crc)
                AS o(id, checkout, number, owner, email, currency, total, at, body, crc)
            ON CONFLICT DO NOTHING RETURNING order_id
        )
        SELECT coalesce(array_agg(o.id), '{}') INTO placed
          FROM unnest(o_order) AS o(id) WHERE o.id NOT IN (SELECT order_id FROM inserted);
        IF cardinality(placed) > 0 THEN
            RAISE EXCEPTION 'orders already there: %', placed USING ERRCODE = 'unique_violation';
        END IF;
    END IF;
    IF cardinality(t_order) > 0 THEN
        INSERT INTO order_state (order_id, version, status, payment_status, updated_at, body)
        SELECT DISTINCT ON (t.id) t.id, version, status, payment, to_timestamp(at / 1000.0), body::json
          FROM unnest(t_order, t_version, t_status, t_payment, t_at, t_body)
            AS t(id, version, status, payment, at, body)
         ORDER BY t.id, version DESC
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, payment_status = excluded.payment_status,
            updated_at = excluded.updated_at, body = excluded.body;
    END IF;
    IF cardinality(e_order) > 0 THEN
        INSERT INTO order_event (order_id, n, at, actor, type, detail)
        SELECT e.id, n, to_timestamp(at / 1000.0), actor, type, detail::json
          FROM unnest(e_order, e_n, e_at, e_actor, e_type, e_detail) AS e(id, n, at, actor, type, detail);
    END IF;
    IF cardinality(x_order) > 0 THEN
        INSERT INTO outbox (order_id, n, destination, payload)
        SELECT x.id, n, destination, payload::json
          FROM unnest(x_order, x_n, x_destination, x_payload) AS x(id, n, destination, payload);
    END IF;
    RETURN placed;
END $$;
