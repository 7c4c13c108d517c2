-- Where each interest stands, as the alert worker last wrote it. Rows hold no e-mail address.
--
-- A row may be behind what the worker knows: a message that changes nothing but its number is not
-- written at once. Why that is safe is argued in the crate's src/core/keep.rs.
CREATE TABLE levels (
    interest_id uuid PRIMARY KEY,
    level text NOT NULL CHECK (level IN ('unknown', 'normal', 'high', 'low')),
    no_data boolean NOT NULL,
    -- The newest message that is settled: the interest's version, then the reading's number.
    version bigint,
    seq bigint,
    -- Set when the interest was removed. The row stays for longer than Kafka keeps messages, so that
    -- a message that was on its way then does not begin the interest anew.
    removed_at timestamptz,
    CHECK (removed_at IS NOT NULL OR (version IS NOT NULL AND seq IS NOT NULL))
) WITH (fillfactor = 80);

CREATE INDEX levels_removed_at ON levels (removed_at) WHERE removed_at IS NOT NULL;

-- The same for messages of the five-field kind, which have neither an interest id nor a number.
CREATE TABLE bare_levels (
    -- UUIDv5 of e-mail address and airport.
    identity uuid PRIMARY KEY,
    level text NOT NULL CHECK (level IN ('unknown', 'normal', 'high', 'low')),
    no_data boolean NOT NULL,
    -- The newest settled offset of each partition that carried this identity, as {"3": 120}.
    positions jsonb NOT NULL
) WITH (fillfactor = 80);
