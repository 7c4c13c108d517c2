-- What a bucket's credits and its pause are worth: when the source was last believed about them, and how
-- often in a row it refused. A pause that began later than now was written by a clock that was ahead.
ALTER TABLE credits
    ADD COLUMN told_at timestamptz,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0;
