-- Why an alert ended unsent, from a closed set of names.
ALTER TABLE alerts ADD COLUMN reason text;
-- What became of a person's earlier alerts: a message that says "recovered" also says what was missed.
CREATE INDEX alerts_settled_of ON alerts (email, position) WHERE status <> 'pending';
CREATE INDEX alerts_undelivered ON alerts (user_id, settled_at) WHERE status IN ('given_up', 'undeliverable');

-- Registrations whose undelivered alerts changed since user-manager was last told of them. A trigger
-- writes them, so that an alert cannot end unsent, or be forgotten, unreported.
CREATE SEQUENCE undelivered_versions;
CREATE TABLE undelivered_reports (
    user_id uuid PRIMARY KEY,
    -- Rises with every change: user-manager keeps the newest, and a report that was made meanwhile stays.
    version bigint NOT NULL DEFAULT nextval('undelivered_versions'),
    next_call_at timestamptz NOT NULL DEFAULT now(),
    calls integer NOT NULL DEFAULT 0
);
CREATE INDEX undelivered_reports_due ON undelivered_reports (next_call_at);

CREATE FUNCTION report_undelivered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO undelivered_reports (user_id)
    SELECT DISTINCT user_id FROM changed
    WHERE status IN ('given_up', 'undeliverable') AND user_id IS NOT NULL ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET version = nextval('undelivered_versions'), next_call_at = now(), calls = 0;
    RETURN NULL;
END $$;
CREATE TRIGGER report_settled AFTER UPDATE ON alerts REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION report_undelivered();
CREATE TRIGGER report_forgotten AFTER DELETE ON alerts REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION report_undelivered();

-- What ended unsent before this version is told as well.
INSERT INTO undelivered_reports (user_id)
SELECT DISTINCT user_id FROM alerts WHERE status IN ('given_up', 'undeliverable') AND user_id IS NOT NULL;
