-- The sandbox gateway's own book. It stands for somebody else's database: nothing of Lastunit's joins with it,
-- and only the audit compares the two.
--
-- The book is append-only, and the primary key is what decides a race. A row is the n-th fact about its payment;
-- whoever writes it has judged facts 1 to n-1. Of two instances that both want to write fact n (a capture here, a
-- void there), one finds the place taken, writes nothing, reads again and judges again.

CREATE TABLE sandbox_ledger (
    payment_id       text        NOT NULL,
    n                integer     NOT NULL CHECK (n >= 1),
    seq              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    id               text        NOT NULL,
    type             text        NOT NULL
        CHECK (type IN ('authorization', 'capture', 'void', 'refund', 'resolution', 'fault')),
    status           text        NOT NULL CHECK (status IN ('succeeded', 'declined', 'requires_action')),
    code             text        NOT NULL,
    authorization_id text,
    checkout_id      text        NOT NULL,
    amount_minor     bigint      NOT NULL CHECK (amount_minor >= 0),
    currency         text        NOT NULL,
    token            text        NOT NULL,
    idempotency_key  text,
    fingerprint      bytea       NOT NULL,
    created_at       timestamptz NOT NULL,
    CONSTRAINT sandbox_ledger_pkey PRIMARY KEY (payment_id, n),
    CONSTRAINT sandbox_ledger_key_used_once UNIQUE (idempotency_key)
);

-- Says in the schema what the order of facts already ensures: an authorization is spent once, on a capture or a void.
CREATE UNIQUE INDEX sandbox_ledger_spent_once ON sandbox_ledger (payment_id)
    WHERE status = 'succeeded' AND type IN ('capture', 'void');

CREATE UNIQUE INDEX sandbox_ledger_seq ON sandbox_ledger (seq);

COMMENT ON TABLE sandbox_ledger IS 'Append-only book of the sandbox payment gateway, one row per fact about a payment.';
COMMENT ON COLUMN sandbox_ledger.n IS 'Place among the facts about this payment, from 1 without gaps.';
COMMENT ON COLUMN sandbox_ledger.seq IS 'Cursor of the listing; has gaps.';
COMMENT ON COLUMN sandbox_ledger.type IS
    'resolution (the buyer acted) and fault (an error was served) are notes of the gateway, left out of sandbox_entries.';
COMMENT ON COLUMN sandbox_ledger.code IS 'Reason of a decline, else empty.';
COMMENT ON COLUMN sandbox_ledger.fingerprint IS 'Digest of the request that brought the idempotency key.';

-- What the gateway shows: an authorization that waited for the buyer carries the result of the buyer's step.
CREATE VIEW sandbox_entries AS
SELECT entry.payment_id, entry.n, entry.seq, entry.id, entry.type,
       coalesce(resolution.status, entry.status) AS status,
       coalesce(resolution.code, entry.code) AS code,
       entry.authorization_id, entry.checkout_id, entry.amount_minor, entry.currency, entry.token,
       entry.idempotency_key, entry.fingerprint, entry.created_at
FROM sandbox_ledger AS entry
LEFT JOIN sandbox_ledger AS resolution
    ON resolution.payment_id = entry.payment_id
    AND resolution.type = 'resolution'
    AND resolution.authorization_id = entry.id
WHERE entry.type NOT IN ('resolution', 'fault');

-- Writes the facts whose place and key are still free, and returns the payments of those it wrote.
-- One call is one statement and one commit, for a whole group of gateway calls.
CREATE FUNCTION sandbox_append(
    payment_ids text[], ns integer[], ids text[], types text[], statuses text[], codes text[],
    authorization_ids text[], checkout_ids text[], amounts_minor bigint[], currencies text[], tokens text[],
    idempotency_keys text[], fingerprints bytea[], created_ats_ms bigint[]
) RETURNS SETOF text
LANGUAGE sql AS $$
    INSERT INTO sandbox_ledger (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at
    )
    SELECT payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
           idempotency_key, fingerprint, to_timestamp(created_at_ms / 1000.0)
    FROM unnest(
        payment_ids, ns, ids, types, statuses, codes, authorization_ids, checkout_ids, amounts_minor, currencies,
        tokens, idempotency_keys, fingerprints, created_ats_ms
    ) AS new (
        payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
        idempotency_key, fingerprint, created_at_ms
    )
    ON CONFLICT DO NOTHING
    RETURNING payment_id
$$;

-- The shape in which facts are read, column by column that of domain.payments.BookEntry.
CREATE TYPE sandbox_fact AS (
    payment_id text, n integer, id text, type text, status text, code text, authorization_id text, checkout_id text,
    amount_minor bigint, currency text, token text, idempotency_key text, fingerprint bytea, created_at_ms bigint,
    seq bigint
);

-- All facts about some payments, and the single facts that used some idempotency keys, in order of payment and n.
-- Its plan may be made and kept while the table is empty, where a sequential scan looks best; hence the setting.
CREATE FUNCTION sandbox_recall(payment_ids text[], idempotency_keys text[]) RETURNS SETOF sandbox_fact
LANGUAGE sql STABLE
SET enable_seqscan = off
AS $$
    SELECT payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
           idempotency_key, fingerprint, (extract(epoch FROM created_at) * 1000)::bigint, seq
    FROM sandbox_ledger
    WHERE payment_id = ANY (payment_ids) OR idempotency_key = ANY (idempotency_keys)
    ORDER BY payment_id, n
$$;

-- One page of the listing: up to `page_size` entries beyond `after_seq`, in order.
CREATE FUNCTION sandbox_page(after_seq bigint, page_size integer) RETURNS SETOF sandbox_fact
LANGUAGE sql STABLE
SET enable_seqscan = off
AS $$
    SELECT payment_id, n, id, type, status, code, authorization_id, checkout_id, amount_minor, currency, token,
           idempotency_key, fingerprint, (extract(epoch FROM created_at) * 1000)::bigint, seq
    FROM sandbox_entries
    WHERE seq > after_seq
    ORDER BY seq
    LIMIT page_size
$$;
