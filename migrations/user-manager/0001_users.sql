-- Who is registered. A row is one registration: whoever is deleted and registers again gets a new
-- id, so that nothing meant for the first registration reaches the second.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    -- Trimmed and in lower case.
    email text NOT NULL CONSTRAINT users_email_key UNIQUE CHECK (email = lower(email)),
    first_name text NOT NULL,
    last_name text NOT NULL,
    tax_code text CONSTRAINT users_tax_code_key UNIQUE,
    -- Not unique: a family may share an account.
    iban text,
    telegram_chat_id bigint CONSTRAINT users_telegram_chat_id_key UNIQUE CHECK (telegram_chat_id <> 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The outbox of deletions: a row is written with the deletion itself and called out to
-- data-collector until data-collector has said yes.
CREATE TABLE deletions (
    user_id uuid PRIMARY KEY,
    -- Needed for the call, and forgotten once it was made.
    email text,
    request_id text,
    traceparent text,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    calls integer NOT NULL DEFAULT 0,
    -- Also how a replica claims a row: others leave it alone until then.
    next_call_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CHECK ((settled_at IS NULL) = (email IS NOT NULL))
);
CREATE INDEX deletions_due ON deletions (next_call_at) WHERE settled_at IS NULL;
CREATE INDEX deletions_settled ON deletions (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE idempotency_keys (
    caller text NOT NULL,
    key text NOT NULL,
    request bytea NOT NULL,
    status smallint NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX ON idempotency_keys (created_at);
