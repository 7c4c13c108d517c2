-- The rest of what the source tells of a flight; null where it tells nothing. Distances in metres.
ALTER TABLE flights
    ADD COLUMN departure_airport_horiz_distance integer,
    ADD COLUMN departure_airport_vert_distance integer,
    ADD COLUMN arrival_airport_horiz_distance integer,
    ADD COLUMN arrival_airport_vert_distance integer,
    ADD COLUMN departure_airport_candidates_count integer,
    ADD COLUMN arrival_airport_candidates_count integer;

-- A copy of the flight in each of its lists, so that a page is read from one place and in order. A
-- flight may be in several lists of an airport: it left from and arrived there, or moved to another day.
-- Only its newest entry is shown, of the airport and of each direction.
ALTER TABLE airport_flights
    ADD COLUMN newest boolean NOT NULL DEFAULT true,
    ADD COLUMN newest_of_direction boolean NOT NULL DEFAULT true,
    ADD COLUMN last_seen timestamptz,
    ADD COLUMN callsign text,
    ADD COLUMN departure_airport text,
    ADD COLUMN arrival_airport text,
    ADD COLUMN departure_airport_horiz_distance integer,
    ADD COLUMN departure_airport_vert_distance integer,
    ADD COLUMN arrival_airport_horiz_distance integer,
    ADD COLUMN arrival_airport_vert_distance integer,
    ADD COLUMN departure_airport_candidates_count integer,
    ADD COLUMN arrival_airport_candidates_count integer;

LOCK TABLE flights, airport_flights IN SHARE ROW EXCLUSIVE MODE;
-- Indices are built anew afterwards, which is faster than changing them with every row.
DROP INDEX airport_flights_newest, airport_flights_by_day, airport_flights_by_flight;
UPDATE airport_flights a
    SET last_seen = f.last_seen, callsign = f.callsign, departure_airport = f.departure_airport,
        arrival_airport = f.arrival_airport
    FROM flights f WHERE f.icao24 = a.icao24 AND f.first_seen = a.first_seen;
ALTER TABLE airport_flights ALTER COLUMN last_seen SET NOT NULL;
CREATE INDEX airport_flights_by_flight ON airport_flights (icao24, first_seen);
CREATE INDEX airport_flights_newest ON airport_flights (airport_code, happened_at, icao24, first_seen);
CREATE INDEX airport_flights_by_day ON airport_flights (day);
WITH entries AS (
    SELECT airport_code, direction, day, icao24, first_seen,
        row_number() OVER (
            PARTITION BY airport_code, icao24, first_seen ORDER BY happened_at DESC, direction DESC, day DESC
        ) AS place,
        row_number() OVER (
            PARTITION BY airport_code, icao24, first_seen, direction ORDER BY happened_at DESC, day DESC
        ) AS place_of_direction
    FROM airport_flights
)
UPDATE airport_flights a SET newest = false, newest_of_direction = e.place_of_direction = 1
    FROM entries e
    WHERE e.place > 1 AND e.airport_code = a.airport_code AND e.direction = a.direction AND e.day = a.day
        AND e.icao24 = a.icao24 AND e.first_seen = a.first_seen;

CREATE INDEX airport_flights_listed ON airport_flights (airport_code, happened_at, icao24, first_seen) WHERE newest;
CREATE INDEX airport_flights_listed_by_direction
    ON airport_flights (airport_code, direction, happened_at, icao24, first_seen) WHERE newest_of_direction;

-- Triggers keep the copies and the marks, so that every writer does: also an older replica during an
-- update, whose own list still uses the index airport_flights_newest.
CREATE FUNCTION copy_flight() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    f flights%ROWTYPE;
BEGIN
    SELECT * INTO f FROM flights WHERE icao24 = NEW.icao24 AND first_seen = NEW.first_seen;
    NEW.last_seen := coalesce(f.last_seen, NEW.first_seen);
    NEW.callsign := f.callsign;
    NEW.departure_airport := f.departure_airport;
    NEW.arrival_airport := f.arrival_airport;
    NEW.departure_airport_horiz_distance := f.departure_airport_horiz_distance;
    NEW.departure_airport_vert_distance := f.departure_airport_vert_distance;
    NEW.arrival_airport_horiz_distance := f.arrival_airport_horiz_distance;
    NEW.arrival_airport_vert_distance := f.arrival_airport_vert_distance;
    NEW.departure_airport_candidates_count := f.departure_airport_candidates_count;
    NEW.arrival_airport_candidates_count := f.arrival_airport_candidates_count;
    RETURN NEW;
END;
$$;

CREATE FUNCTION correct_flight_copies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE airport_flights
        SET last_seen = NEW.last_seen, callsign = NEW.callsign, departure_airport = NEW.departure_airport,
            arrival_airport = NEW.arrival_airport,
            departure_airport_horiz_distance = NEW.departure_airport_horiz_distance,
            departure_airport_vert_distance = NEW.departure_airport_vert_distance,
            arrival_airport_horiz_distance = NEW.arrival_airport_horiz_distance,
            arrival_airport_vert_distance = NEW.arrival_airport_vert_distance,
            departure_airport_candidates_count = NEW.departure_airport_candidates_count,
            arrival_airport_candidates_count = NEW.arrival_airport_candidates_count
        WHERE icao24 = NEW.icao24 AND first_seen = NEW.first_seen;
    RETURN NULL;
END;
$$;

CREATE FUNCTION mark_newest() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed airport_flights%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    -- Nearly every flight has one entry at an airport.
    IF TG_OP = 'INSERT' THEN
        PERFORM 1 FROM airport_flights
            WHERE airport_code = NEW.airport_code AND icao24 = NEW.icao24 AND first_seen = NEW.first_seen
                AND (direction, day) <> (NEW.direction, NEW.day);
        IF NOT FOUND THEN RETURN NULL; END IF;
    END IF;
    UPDATE airport_flights a SET newest = n.newest, newest_of_direction = n.newest_of_direction
        FROM (
            SELECT direction, day,
                row_number() OVER (ORDER BY happened_at DESC, direction DESC, day DESC) = 1 AS newest,
                row_number() OVER (PARTITION BY direction ORDER BY happened_at DESC, day DESC) = 1 AS newest_of_direction
            FROM airport_flights
            WHERE airport_code = changed.airport_code AND icao24 = changed.icao24 AND first_seen = changed.first_seen
        ) n
        WHERE a.airport_code = changed.airport_code AND a.icao24 = changed.icao24
            AND a.first_seen = changed.first_seen AND a.direction = n.direction AND a.day = n.day
            AND (a.newest, a.newest_of_direction) IS DISTINCT FROM (n.newest, n.newest_of_direction);
    RETURN NULL;
END;
$$;

CREATE TRIGGER copy_flight BEFORE INSERT ON airport_flights FOR EACH ROW EXECUTE FUNCTION copy_flight();
CREATE TRIGGER correct_flight_copies AFTER UPDATE ON flights
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION correct_flight_copies();
CREATE TRIGGER mark_newest AFTER INSERT OR DELETE OR UPDATE OF happened_at, day ON airport_flights
    FOR EACH ROW EXECUTE FUNCTION mark_newest();
