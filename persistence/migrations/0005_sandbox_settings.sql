-- What an operator has set on the sandbox gateway, for as long as the `run` of `lastunit up` in which it was set.

CREATE TABLE sandbox_settings (
    only_row   boolean NOT NULL DEFAULT true CHECK (only_row),
    run        text    NOT NULL,
    mode       text    NOT NULL CHECK (mode IN ('up', 'down', 'error')),
    latency_ms text    NOT NULL,
    CONSTRAINT sandbox_settings_pkey PRIMARY KEY (only_row)
);
