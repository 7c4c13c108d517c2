-- The newest reading with a value that was there when the interest was added, or when its thresholds changed last; 0
-- when there was none. The interest is judged by it, and what comes later reaches the interest in its turn.
ALTER TABLE interests ADD COLUMN judged_from bigint NOT NULL DEFAULT 0;

-- A trigger keeps it, so that every writer does: also an older replica during an update.
CREATE FUNCTION note_judged_from() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.judged_from := coalesce((
        SELECT newest_valued_seq FROM series WHERE airport_code = NEW.airport_code AND metric = NEW.metric
    ), 0);
    RETURN NEW;
END;
$$;
CREATE TRIGGER note_judged_from BEFORE INSERT OR UPDATE OF version ON interests
    FOR EACH ROW EXECUTE FUNCTION note_judged_from();
