-- Retention looks for old flights.
CREATE INDEX flights_by_age ON flights (first_seen);
-- Everything under an address is removed when its user is deleted without an id.
CREATE INDEX interests_by_email ON interests (user_email);
-- Evaluations and removals are claimed oldest first, removals by their series.
CREATE INDEX interest_outbox_by_kind ON interest_outbox (kind, id);
CREATE INDEX interest_outbox_by_series ON interest_outbox (airport_code, metric, id) WHERE kind = 'removed';
-- The readings of one metric are listed newest first.
CREATE INDEX readings_newest_of_metric ON readings (airport_code, metric, observed_at, id);
