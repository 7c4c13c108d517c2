-- Rises whenever a person names a chat, also the same one again, so that the notifier tries it anew.
ALTER TABLE users ADD COLUMN chat_link bigint NOT NULL DEFAULT 0;

-- What the notifier could not tell this person, as it last reported it. It is kept here, so that showing
-- a user asks no other service.
ALTER TABLE users ADD COLUMN undelivered_version bigint NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN undelivered_count bigint NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN undelivered_last_at timestamptz;
ALTER TABLE users ADD COLUMN undelivered_reason text;
