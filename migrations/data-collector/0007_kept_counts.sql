-- How many flights the day lists in this direction.
ALTER TABLE collected_days ADD COLUMN flights integer NOT NULL DEFAULT 0;

-- The days held of an airport, whatever the direction, and how many different flights each has: one that
-- left from and arrived at the same airport counts once. Averages are sums over these rows.
CREATE TABLE airport_days (
    airport_code text NOT NULL,
    day date NOT NULL,
    flights integer NOT NULL,
    PRIMARY KEY (airport_code, day)
);

-- The newest of these days of each direction: what the planner reads, however many days are held.
CREATE TABLE newest_days (
    airport_code text NOT NULL,
    direction text NOT NULL,
    day date NOT NULL,
    flights integer NOT NULL,
    PRIMARY KEY (airport_code, direction)
);

-- The newest reading with a value, and how many readings with a value are held and what they add up to:
-- what new interests are judged by, without reading the readings.
ALTER TABLE series
    ADD COLUMN newest_valued_seq bigint,
    ADD COLUMN looked bigint NOT NULL DEFAULT 0,
    ADD COLUMN seen bigint NOT NULL DEFAULT 0;

-- Triggers keep these numbers in the transaction that changes what they count, so that every writer does:
-- also an older replica during an update.

-- A day's flights are listed before the day is recorded as collected.
CREATE FUNCTION count_direction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.flights := (
        SELECT count(*) FROM airport_flights
        WHERE airport_code = NEW.airport_code AND direction = NEW.direction AND day = NEW.day
    );
    RETURN NEW;
END;
$$;

CREATE FUNCTION count_airport_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO airport_days (airport_code, day, flights)
    SELECT NEW.airport_code, NEW.day, count(DISTINCT (icao24, first_seen)) FROM airport_flights
        WHERE airport_code = NEW.airport_code AND direction IN ('arrival', 'departure') AND day = NEW.day
    ON CONFLICT (airport_code, day) DO UPDATE SET flights = excluded.flights;
    INSERT INTO newest_days AS known VALUES (NEW.airport_code, NEW.direction, NEW.day, NEW.flights)
    ON CONFLICT (airport_code, direction) DO UPDATE SET day = excluded.day, flights = excluded.flights
        WHERE known.day <= excluded.day;
    RETURN NULL;
END;
$$;

CREATE FUNCTION forget_airport_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM airport_days d USING removed_days r
        WHERE d.airport_code = r.airport_code AND d.day = r.day AND NOT EXISTS (
            SELECT 1 FROM collected_days c WHERE c.airport_code = d.airport_code AND c.day = d.day
        );
    DELETE FROM newest_days n USING removed_days r
        WHERE n.airport_code = r.airport_code AND n.direction = r.direction AND n.day = r.day;
    INSERT INTO newest_days
    SELECT DISTINCT ON (airport_code, direction) airport_code, direction, day, flights FROM collected_days
        WHERE (airport_code, direction) IN (
            SELECT airport_code, direction FROM removed_days
            EXCEPT SELECT airport_code, direction FROM newest_days
        )
        ORDER BY airport_code, direction, day DESC
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END;
$$;

CREATE FUNCTION count_reading() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO series (airport_code, metric, last_seq, newest_valued_seq, looked, seen)
        VALUES (NEW.airport_code, NEW.metric, NEW.seq, NEW.seq, 1, NEW.value)
        ON CONFLICT (airport_code, metric) DO UPDATE
        SET newest_valued_seq = greatest(series.newest_valued_seq, excluded.newest_valued_seq),
            looked = series.looked + 1, seen = series.seen + excluded.seen;
    RETURN NULL;
END;
$$;

CREATE FUNCTION uncount_readings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Locked in the order in which the leader locks them, so that neither waits for the other for ever.
    PERFORM 1 FROM series s
        WHERE (s.airport_code, s.metric) IN (SELECT r.airport_code, r.metric FROM removed_readings r WHERE r.value IS NOT NULL)
        ORDER BY s.airport_code, s.metric FOR NO KEY UPDATE;
    UPDATE series s SET looked = s.looked - r.looked, seen = s.seen - r.seen
        FROM (
            SELECT airport_code, metric, count(value) AS looked, sum(value) AS seen FROM removed_readings
            WHERE value IS NOT NULL GROUP BY airport_code, metric
        ) r
        WHERE s.airport_code = r.airport_code AND s.metric = r.metric;
    RETURN NULL;
END;
$$;

-- Creating a trigger waits for writers and keeps new ones out until the end of this transaction, so the
-- numbers are filled from everything there is.
CREATE TRIGGER count_reading AFTER INSERT ON readings
    FOR EACH ROW WHEN (NEW.value IS NOT NULL) EXECUTE FUNCTION count_reading();
CREATE TRIGGER uncount_readings AFTER DELETE ON readings
    REFERENCING OLD TABLE AS removed_readings FOR EACH STATEMENT EXECUTE FUNCTION uncount_readings();
LOCK TABLE collected_days, airport_flights IN SHARE ROW EXCLUSIVE MODE;

UPDATE collected_days c SET flights = held.flights
    FROM (SELECT airport_code, direction, day, count(*) AS flights FROM airport_flights GROUP BY 1, 2, 3) held
    WHERE held.airport_code = c.airport_code AND held.direction = c.direction AND held.day = c.day;
INSERT INTO airport_days
    SELECT c.airport_code, c.day, coalesce(held.flights, 0)
    FROM (SELECT DISTINCT airport_code, day FROM collected_days) c
    LEFT JOIN (
        SELECT airport_code, day, count(DISTINCT (icao24, first_seen)) AS flights FROM airport_flights GROUP BY 1, 2
    ) held USING (airport_code, day);
INSERT INTO newest_days
    SELECT DISTINCT ON (airport_code, direction) airport_code, direction, day, flights FROM collected_days
    ORDER BY airport_code, direction, day DESC;
INSERT INTO series (airport_code, metric, last_seq, newest_valued_seq, looked, seen)
    SELECT airport_code, metric, max(seq), max(seq), count(*), sum(value) FROM readings
    WHERE value IS NOT NULL GROUP BY airport_code, metric
    ON CONFLICT (airport_code, metric) DO UPDATE
    SET newest_valued_seq = excluded.newest_valued_seq, looked = excluded.looked, seen = excluded.seen;

-- Created last: filling the columns above must not count everything again, row by row.
CREATE TRIGGER count_direction BEFORE INSERT OR UPDATE ON collected_days
    FOR EACH ROW EXECUTE FUNCTION count_direction();
CREATE TRIGGER count_airport_day AFTER INSERT OR UPDATE ON collected_days
    FOR EACH ROW EXECUTE FUNCTION count_airport_day();
CREATE TRIGGER forget_airport_days AFTER DELETE ON collected_days
    REFERENCING OLD TABLE AS removed_days FOR EACH STATEMENT EXECUTE FUNCTION forget_airport_days();
