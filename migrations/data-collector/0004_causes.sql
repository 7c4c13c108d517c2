-- The request that made an interest or changed it, until a value has been sent for that version: then
-- both are null again, as they are for nearly every row.
ALTER TABLE interests ADD COLUMN request_id text, ADD COLUMN traceparent text;
