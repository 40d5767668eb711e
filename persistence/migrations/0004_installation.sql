-- Whose database this is. Several installations may share one Ray cluster: the names of their actors are told apart
-- by this id. `home` is the database in which the id was given, so that a copy (a dump restored elsewhere, a
-- database made from a template) is known as one and gets an id of its own.

CREATE TABLE installation (
    only_row boolean NOT NULL DEFAULT true CHECK (only_row),
    id       text    NOT NULL,
    home     text    NOT NULL,
    CONSTRAINT installation_pkey PRIMARY KEY (only_row)
);

-- This database's id; given at the first call, and anew at the first call in a copy.
CREATE FUNCTION claim_installation() RETURNS text LANGUAGE sql VOLATILE AS $$
    INSERT INTO installation AS known (id, home)
    SELECT gen_random_uuid()::text, system_identifier || '/' || oid
      FROM pg_control_system(), pg_database
     WHERE datname = current_database()
    ON CONFLICT ON CONSTRAINT installation_pkey DO UPDATE
       SET id = CASE WHEN known.home = excluded.home THEN known.id ELSE excluded.id END, home = excluded.home
    RETURNING id
$$;
