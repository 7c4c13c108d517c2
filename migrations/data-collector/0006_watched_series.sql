-- Which airports and metrics have at least one interest: what the planner reads, however many interests
-- there are. Triggers keep it, so that every writer does: also an older replica during an update, and SQL
-- by hand.
CREATE TABLE watched_series (
    airport_code text NOT NULL,
    metric text NOT NULL,
    PRIMARY KEY (airport_code, metric)
);

-- Additions share the row's lock, so they do not wait for each other. Rows are locked in the order of
-- their keys, so two transactions cannot wait for each other.
CREATE FUNCTION watch_added_series() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    added record;
BEGIN
    FOR added IN SELECT DISTINCT airport_code, metric FROM added_interests ORDER BY airport_code, metric LOOP
        LOOP
            PERFORM 1 FROM watched_series
                WHERE airport_code = added.airport_code AND metric = added.metric FOR KEY SHARE;
            EXIT WHEN FOUND;
            -- Waits for another transaction that is adding or removing the row at this moment.
            INSERT INTO watched_series VALUES (added.airport_code, added.metric) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                PERFORM pg_notify('data_collector', 'collect');
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
    RETURN NULL;
END;
$$;

-- Removals of one series follow one another. Only one that finds no interest left waits for additions.
CREATE FUNCTION unwatch_removed_series() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    removed record;
BEGIN
    FOR removed IN SELECT DISTINCT airport_code, metric FROM removed_interests ORDER BY airport_code, metric LOOP
        PERFORM 1 FROM watched_series
            WHERE airport_code = removed.airport_code AND metric = removed.metric FOR NO KEY UPDATE;
        -- Each statement sees what was committed while the one before it waited.
        PERFORM 1 FROM interests WHERE airport_code = removed.airport_code AND metric = removed.metric LIMIT 1;
        CONTINUE WHEN FOUND;
        PERFORM 1 FROM watched_series
            WHERE airport_code = removed.airport_code AND metric = removed.metric FOR UPDATE;
        DELETE FROM watched_series w
            WHERE w.airport_code = removed.airport_code AND w.metric = removed.metric AND NOT EXISTS (
                SELECT 1 FROM interests i WHERE i.airport_code = w.airport_code AND i.metric = w.metric
            );
        IF FOUND THEN
            PERFORM pg_notify('data_collector', 'collect');
        END IF;
    END LOOP;
    RETURN NULL;
END;
$$;

-- Creating a trigger waits for writers and keeps new ones out until the end of this transaction, so the
-- table is filled with everything there is.
CREATE TRIGGER watch_added_series AFTER INSERT ON interests
    REFERENCING NEW TABLE AS added_interests FOR EACH STATEMENT EXECUTE FUNCTION watch_added_series();
CREATE TRIGGER unwatch_removed_series AFTER DELETE ON interests
    REFERENCING OLD TABLE AS removed_interests FOR EACH STATEMENT EXECUTE FUNCTION unwatch_removed_series();
INSERT INTO watched_series SELECT DISTINCT airport_code, metric FROM interests;
