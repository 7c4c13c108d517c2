-- How many attempts in a row did not bring what was asked for, so that what fails for long is asked
-- for less and less often.
ALTER TABLE schedule ADD COLUMN failures integer NOT NULL DEFAULT 0;
