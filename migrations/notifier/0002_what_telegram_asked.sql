-- What has to be known of earlier calls by whoever sends next, after a restart too, so that Telegram's
-- limits are kept across it: where each attempt went (absent in those made before this column was),
-- and until when the bot as a whole was asked to be silent.
ALTER TABLE attempts ADD COLUMN chat_id bigint;

CREATE TABLE silence (
    -- One row at most.
    is_asked boolean PRIMARY KEY CHECK (is_asked),
    until timestamptz NOT NULL
);
