-- One row for each address that has pending alerts. The sender reads these rows and the oldest pending
-- alert of each, never the alerts behind it, so that a long queue of one person costs no more than a
-- short one. alerts.next_attempt_at is no longer read.
CREATE TABLE queues (
    email text PRIMARY KEY,
    -- When the oldest pending alert may be tried; infinity while an attempt at it is under way.
    next_at timestamptz NOT NULL DEFAULT now(),
    -- When next_at was decided. In the future only if the clock was set back meanwhile.
    decided_at timestamptz NOT NULL DEFAULT now(),
    -- Whether what is waited for is a chat (that is named, found, or allows us to write again).
    awaits_chat boolean NOT NULL DEFAULT false,
    -- The chat that could not be reached, which naming of it that was, how often in a row, and when
    -- Telegram is asked again.
    refused_chat bigint,
    refused_link bigint,
    refusals integer NOT NULL DEFAULT 0,
    chat_retry_at timestamptz,
    -- Why the chat cannot be reached.
    reason text,
    -- Since when user-manager says that there is no such registration.
    gone_since timestamptz
);
CREATE INDEX queues_due ON queues (next_at, email);
CREATE INDEX queues_of_chat ON queues (refused_chat) WHERE refused_chat IS NOT NULL;

-- A trigger, because every writer has to do it, those of the version before this one included, which
-- read the topic until the last of them is replaced. It locks the row also where it exists already: a
-- row is removed only under that lock and after a look for pending alerts, so none is left without one.
CREATE FUNCTION queue_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queues (email) SELECT DISTINCT email FROM fresh ORDER BY email
    ON CONFLICT (email) DO UPDATE SET email = excluded.email;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_alerts AFTER INSERT ON alerts REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION queue_alerts();

INSERT INTO queues (email, next_at)
SELECT DISTINCT ON (a.email) a.email,
       CASE WHEN EXISTS (SELECT FROM attempts t WHERE t.event_id = a.event_id AND t.outcome IS NULL)
            THEN 'infinity' ELSE a.next_attempt_at END
FROM alerts a WHERE a.status = 'pending' ORDER BY a.email, a.position
ON CONFLICT (email) DO NOTHING;

DROP INDEX alerts_due;

-- Attempts that may have reached the person though no answer said so: each makes the next repeat wait longer.
ALTER TABLE alerts ADD COLUMN unclear integer NOT NULL DEFAULT 0;
-- When Telegram asked for silence: the wait is known also after the clock was set back.
ALTER TABLE silence ADD COLUMN asked_at timestamptz NOT NULL DEFAULT now();
