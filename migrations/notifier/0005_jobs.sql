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

-- Reports of undelivered alerts become jobs, one for each registration at most. Their table stays, empty, as long as a
-- replica of the version before this one may run; a later version drops it. It is locked first, so that nothing that
-- was claimed there is on its way while its rows are moved.
LOCK TABLE undelivered_reports IN EXCLUSIVE MODE;
INSERT INTO jobs (kind, key, payload, deduplicated, attempts, due_at)
SELECT 'undelivered_report', user_id::text, jsonb_build_object('version', version), true, calls, next_call_at
FROM undelivered_reports ORDER BY version;
DELETE FROM undelivered_reports;

CREATE OR REPLACE FUNCTION report_undelivered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs (kind, key, payload, deduplicated)
    SELECT 'undelivered_report', user_id::text, jsonb_build_object('version', nextval('undelivered_versions')), true
    FROM (
        SELECT DISTINCT user_id FROM changed
        WHERE status IN ('given_up', 'undeliverable') AND user_id IS NOT NULL ORDER BY user_id
    ) AS people
    -- The version is taken under the row's lock, so that it rises from change to change.
    ON CONFLICT (kind, key) WHERE deduplicated AND settled_at IS NULL DO UPDATE
    SET payload = jsonb_build_object('version', nextval('undelivered_versions')), due_at = now(), attempts = 0,
        claimed_by = NULL;
    RETURN NULL;
END $$;

-- For a transaction that waited for the lock in the function as it was.
CREATE FUNCTION forward_undelivered_report() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs (kind, key, payload, deduplicated)
    VALUES ('undelivered_report', NEW.user_id::text, jsonb_build_object('version', NEW.version), true)
    ON CONFLICT (kind, key) WHERE deduplicated AND settled_at IS NULL DO UPDATE
    SET payload = jsonb_build_object('version', nextval('undelivered_versions')), due_at = now(), attempts = 0,
        claimed_by = NULL;
    DELETE FROM undelivered_reports WHERE user_id = NEW.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER forward_undelivered_report AFTER INSERT ON undelivered_reports
    FOR EACH ROW EXECUTE FUNCTION forward_undelivered_report();
