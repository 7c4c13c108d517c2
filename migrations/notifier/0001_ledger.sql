-- The one replica that sends holds this.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Every alert that was read from Kafka, once: the primary key refuses the second delivery.
CREATE TABLE alerts (
    event_id uuid PRIMARY KEY,
    -- The order in which a person's alerts are sent. Alerts of one person come from one partition,
    -- so they are inserted in their order.
    position bigint GENERATED ALWAYS AS IDENTITY,
    -- Whom to tell: the address names the queue, the id (absent in the oldest kind of message) the
    -- registration that was meant.
    email text NOT NULL,
    user_id uuid,
    content jsonb NOT NULL,
    observed_at timestamptz,
    request_id text,
    traceparent text,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'sent', 'given_up', 'undeliverable', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- Failures that were the message's own; the channel's are not counted.
    failures integer NOT NULL DEFAULT 0,
    -- Attempts that only led to another way: to a group's new id, or to plain text.
    detours integer NOT NULL DEFAULT 0,
    plain_text boolean NOT NULL DEFAULT false,
    message_id bigint,
    settled_at timestamptz,
    CHECK ((status = 'pending') = (settled_at IS NULL))
);
CREATE INDEX alerts_due ON alerts (next_attempt_at, position) WHERE status = 'pending';
CREATE INDEX alerts_queue ON alerts (email, position) WHERE status = 'pending';
CREATE INDEX alerts_settled ON alerts (settled_at) WHERE status <> 'pending';

-- Written before the call and completed after it. One without an outcome is either under way or
-- was cut off, and then nobody knows whether the person has the message.
CREATE TABLE attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES alerts ON DELETE CASCADE,
    epoch bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    outcome text,
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX attempts_of_alert ON attempts (event_id);
-- An alert has one attempt under way at most: this refuses the second.
CREATE UNIQUE INDEX attempts_under_way ON attempts (event_id) WHERE outcome IS NULL;

-- Groups that became supergroups. user-manager still knows the old id.
CREATE TABLE chat_migrations (
    old_chat_id bigint PRIMARY KEY,
    new_chat_id bigint NOT NULL,
    migrated_at timestamptz NOT NULL DEFAULT now()
);
