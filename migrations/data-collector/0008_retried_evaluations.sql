-- An evaluation that fails by itself is set aside and tried again alone, less and less often.
ALTER TABLE interest_outbox ADD COLUMN failures integer NOT NULL DEFAULT 0, ADD COLUMN retry_at timestamptz;
CREATE INDEX interest_outbox_retries ON interest_outbox (retry_at) WHERE retry_at IS NOT NULL;
