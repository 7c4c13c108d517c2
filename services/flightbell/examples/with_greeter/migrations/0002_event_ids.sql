-- A greeting that was read on the topic may come twice.
ALTER TABLE greetings ADD COLUMN event_id uuid UNIQUE;
