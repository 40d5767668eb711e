-- One key per person (customer or guest), under which that person's fields are sealed everywhere else.
--
-- A row lies here wrapped by the master key, which is kept outside the database: neither is of use without the
-- other. Deleting a row erases the person: journals, snapshots, orders and backups of them keep only ciphertext.

CREATE TABLE data_keys (
    subject    text        NOT NULL,
    wrapped    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT data_keys_pkey PRIMARY KEY (subject)
);

COMMENT ON TABLE data_keys IS 'Data keys of persons, wrapped by the master key. Deleting a row erases the person.';
COMMENT ON COLUMN data_keys.subject IS 'The owner as the engine knows it: c: or g: and a keyed hash.';
COMMENT ON COLUMN data_keys.wrapped IS 'version(1), nonce(12), AES-256-GCM of the 32 key bytes bound to the subject.';

-- Returns the wrapped keys of these subjects, a stored one rather than the offered one, so that all who ask at
-- once seal under the same key. An offer of NULL only looks. Two statements, because the second then sees what
-- others committed while the first waited for them; sorted, so that two batches wait in line and never in a ring.
CREATE FUNCTION claim_data_keys(subjects text[], offers bytea[])
RETURNS TABLE (subject text, wrapped bytea)
LANGUAGE sql VOLATILE AS $$
    INSERT INTO data_keys (subject, wrapped)
    SELECT offer.subject, offer.wrapped
    FROM unnest(subjects, offers) AS offer (subject, wrapped)
    WHERE offer.wrapped IS NOT NULL
    ORDER BY offer.subject
    ON CONFLICT ON CONSTRAINT data_keys_pkey DO NOTHING;

    SELECT stored.subject, stored.wrapped
    FROM data_keys AS stored
    WHERE stored.subject = ANY (subjects);
$$;
