-- The leader's lease (shell::lease).
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Mutations that were answered under an Idempotency-Key (shell::http::idempotency).
CREATE TABLE idempotency_keys (
    caller text NOT NULL,
    key text NOT NULL,
    request bytea NOT NULL,
    status smallint NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX ON idempotency_keys (created_at);

-- What people want to be told about. The e-mail address travels with each message, so that the
-- services behind need not ask for it.
CREATE TABLE interests (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    user_email text NOT NULL,
    airport_code text NOT NULL,
    metric text NOT NULL CHECK (metric IN ('flights', 'arrivals', 'departures', 'live')),
    high_value integer CHECK (high_value BETWEEN 0 AND 100000),
    low_value integer CHECK (low_value BETWEEN 0 AND 100000),
    -- Rises when a threshold changes; part of the identity of every message.
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT interests_unique UNIQUE (user_id, airport_code, metric),
    CONSTRAINT interests_thresholds CHECK (high_value > low_value)
);
-- The order in which the fan-out walks them.
CREATE INDEX interests_by_series ON interests (airport_code, metric, id);

-- Registrations that have ended. Kept for good: an insert that was on its way when its user was
-- deleted must still find the id here.
CREATE TABLE deleted_users (
    user_id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL
);

-- What the change of an interest still has to cause on Kafka, written in the change's own transaction.
CREATE TABLE interest_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('evaluate', 'removed')),
    interest_id uuid NOT NULL,
    -- Of the interest, which a removal no longer has.
    airport_code text NOT NULL,
    metric text NOT NULL,
    request_id text,
    traceparent text
);
CREATE INDEX ON interest_outbox (interest_id, id);

-- The last number given to a reading of an airport and metric. Outlives the readings, so that numbers
-- never repeat.
CREATE TABLE series (
    airport_code text NOT NULL,
    metric text NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (airport_code, metric)
);

CREATE TABLE readings (
    id uuid PRIMARY KEY,
    airport_code text NOT NULL,
    metric text NOT NULL,
    seq bigint NOT NULL,
    -- Null when it is unknown, which is not zero.
    value integer,
    window_begin timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    observed_at timestamptz NOT NULL,
    source text NOT NULL,
    CONSTRAINT readings_unique UNIQUE (airport_code, metric, seq)
);
CREATE INDEX readings_by_age ON readings (observed_at);
CREATE INDEX readings_newest ON readings (airport_code, observed_at, id);

-- Readings that have not reached all their interests yet. The row is locked while a page is under way.
CREATE TABLE fan_outs (
    reading_id uuid PRIMARY KEY REFERENCES readings (id),
    airport_code text NOT NULL,
    metric text NOT NULL,
    seq bigint NOT NULL,
    -- The last interest that was served; null before the first page.
    after_interest uuid,
    pages bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX fan_outs_in_order ON fan_outs (airport_code, metric, seq);

-- A flight is one row, however often and for whatever airport it is collected.
CREATE TABLE flights (
    icao24 text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    callsign text,
    departure_airport text,
    arrival_airport text,
    PRIMARY KEY (icao24, first_seen)
);

-- Which flights the source listed for an airport, direction and UTC day. Counts come from here, and a
-- flight stays as long as any airport's day lists it.
CREATE TABLE airport_flights (
    airport_code text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('arrival', 'departure')),
    day date NOT NULL,
    icao24 text NOT NULL,
    first_seen timestamptz NOT NULL,
    -- When the flight arrived or left: the order in which flights are listed.
    happened_at timestamptz NOT NULL,
    PRIMARY KEY (airport_code, direction, day, icao24, first_seen),
    FOREIGN KEY (icao24, first_seen) REFERENCES flights
);
CREATE INDEX airport_flights_by_flight ON airport_flights (icao24, first_seen);
CREATE INDEX airport_flights_newest ON airport_flights (airport_code, happened_at, icao24, first_seen);
CREATE INDEX airport_flights_by_day ON airport_flights (day);

-- The days that are held, also those without any flight.
CREATE TABLE collected_days (
    airport_code text NOT NULL,
    direction text NOT NULL,
    day date NOT NULL,
    collected_at timestamptz NOT NULL,
    PRIMARY KEY (airport_code, direction, day)
);
CREATE INDEX collected_days_by_day ON collected_days (day);

-- UTC days that the source has published: it answered 200 for some airport.
CREATE TABLE published_days (
    day date PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- The last attempt to find a day published that was not.
CREATE TABLE probes (
    day date PRIMARY KEY,
    probed_at timestamptz NOT NULL
);

-- When an airport was last tried, and when it is planned next. Kind: live, or daily for the other three.
CREATE TABLE schedule (
    airport_code text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('live', 'daily')),
    attempted_at timestamptz,
    next_at timestamptz,
    PRIMARY KEY (airport_code, kind)
);

-- When the last regular cycle for live figures began, which keeps airports in one cycle.
CREATE TABLE cycles (
    kind text PRIMARY KEY,
    begun_at timestamptz NOT NULL
);

-- Airports that somebody waits for: a new interest found no reading it could use.
CREATE TABLE collection_requests (
    airport_code text NOT NULL,
    metric text NOT NULL,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (airport_code, metric)
);

-- What is left of a day's credits, so that a restart does not forget.
CREATE TABLE credits (
    bucket text PRIMARY KEY CHECK (bucket IN ('states', 'flights')),
    day date NOT NULL,
    remaining integer NOT NULL,
    -- Whether `remaining` comes from the source's header, or is our own arithmetic.
    from_header boolean NOT NULL,
    -- What a call turned out to cost, by two headers in a row.
    seen_cost integer,
    paused_until timestamptz
);
