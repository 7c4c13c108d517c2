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

-- What changes of interests cause becomes jobs, also what a replica of the version before this one still writes. That
-- table stays, empty, as long as such a replica may run; a later version drops it. It is locked first, so that nothing
-- that was claimed there is on its way while its rows are moved.
LOCK TABLE interest_outbox IN EXCLUSIVE MODE;
INSERT INTO jobs (kind, key, payload, request_id, traceparent, attempts, due_at)
SELECT CASE kind WHEN 'evaluate' THEN 'evaluation' ELSE 'removal' END, interest_id::text,
       CASE kind WHEN 'evaluate' THEN jsonb_build_object('interest_id', interest_id)
           ELSE jsonb_build_object('interest_id', interest_id, 'airport', airport_code, 'metric', metric) END,
       request_id, traceparent, failures, coalesce(retry_at, now())
FROM interest_outbox ORDER BY id;
DELETE FROM interest_outbox;

CREATE FUNCTION forward_interest_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs (kind, key, payload, request_id, traceparent)
    VALUES (CASE NEW.kind WHEN 'evaluate' THEN 'evaluation' ELSE 'removal' END, NEW.interest_id::text,
        CASE NEW.kind WHEN 'evaluate' THEN jsonb_build_object('interest_id', NEW.interest_id)
            ELSE jsonb_build_object('interest_id', NEW.interest_id, 'airport', NEW.airport_code, 'metric', NEW.metric)
            END,
        NEW.request_id, NEW.traceparent);
    -- Afterwards and not instead: the statement counts the rows that it wrote.
    DELETE FROM interest_outbox WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forward_interest_outbox AFTER INSERT ON interest_outbox
    FOR EACH ROW EXECUTE FUNCTION forward_interest_outbox();
