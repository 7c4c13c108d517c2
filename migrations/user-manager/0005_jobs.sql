-- Work that a transaction promises and that is done after it (pg::jobs).
CREATE TABLE jobs (
    -- Also the order in which jobs were enqueued, as far as they are about the same key.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    -- What the job is about.
    key text NOT NULL,
    -- Whether there is one unsettled job of this kind and key at most.
    deduplicated boolean NOT NULL DEFAULT false,
    -- Forgotten once the job is settled.
    payload jsonb,
    request_id text,
    traceparent text,
    priority smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- How often it was begun, or failed; a job with none may be done at any time.
    attempts integer NOT NULL DEFAULT 0,
    -- When a job that was attempted may be attempted again. Also how it is claimed: others leave it alone until then.
    due_at timestamptz NOT NULL DEFAULT now(),
    -- The claim under which it is being done.
    claimed_by uuid,
    settled_at timestamptz,
    CHECK ((settled_at IS NULL) = (payload IS NOT NULL))
);
CREATE INDEX jobs_fresh ON jobs (kind, priority DESC, id) WHERE attempts = 0 AND settled_at IS NULL;
CREATE INDEX jobs_retried ON jobs (kind, due_at) WHERE attempts > 0 AND settled_at IS NULL;
CREATE INDEX jobs_of_key ON jobs (key, id) WHERE settled_at IS NULL;
CREATE UNIQUE INDEX jobs_deduplicated ON jobs (kind, key) WHERE deduplicated AND settled_at IS NULL;
CREATE INDEX jobs_settled ON jobs (kind, settled_at) WHERE settled_at IS NOT NULL;

-- Every insert wakes the workers of all replicas, also one by a trigger or by hand.
CREATE FUNCTION notify_of_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobs', kind) FROM (SELECT DISTINCT kind FROM enqueued) AS kinds;
    RETURN NULL;
END $$;
CREATE TRIGGER notify_of_new_jobs AFTER INSERT ON jobs
    REFERENCING NEW TABLE AS enqueued FOR EACH STATEMENT EXECUTE FUNCTION notify_of_jobs();
CREATE FUNCTION notify_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobs', NEW.kind);
    RETURN NULL;
END $$;
-- A deduplicated job that is new again.
CREATE TRIGGER notify_of_renewed_job AFTER UPDATE ON jobs
    FOR EACH ROW WHEN (OLD.attempts > 0 AND NEW.attempts = 0) EXECUTE FUNCTION notify_of_job();

-- Deletions become jobs, also those that a replica of the version before this one still writes. That table stays,
-- empty, as long as such a replica may run; a later version drops it. It is locked first, so that nothing that was
-- claimed there is on its way while its rows are moved.
LOCK TABLE deletions IN EXCLUSIVE MODE;
INSERT INTO jobs (kind, key, payload, request_id, traceparent, created_at, attempts, due_at, settled_at)
SELECT 'deletion', user_id::text, CASE WHEN settled_at IS NULL THEN jsonb_build_object('email', email) END, request_id,
       traceparent, deleted_at, calls, next_call_at, settled_at
FROM deletions ORDER BY deleted_at;
DELETE FROM deletions;

CREATE FUNCTION forward_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs (kind, key, payload, request_id, traceparent)
    VALUES ('deletion', NEW.user_id::text, jsonb_build_object('email', NEW.email), NEW.request_id, NEW.traceparent);
    -- Afterwards and not instead: the statement counts the rows that it wrote.
    DELETE FROM deletions WHERE user_id = NEW.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER forward_deletion AFTER INSERT ON deletions FOR EACH ROW EXECUTE FUNCTION forward_deletion();
