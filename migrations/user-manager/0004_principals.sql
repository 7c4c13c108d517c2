-- Whose key it is (shell::principal::Principal::key): keys from before belong to callers who had not signed in, and so
-- do those that an older replica writes during a rolling update. For anybody else `caller` is a hash of the principal
-- instead of an address, so the primary key keeps two principals with the same key apart.
ALTER TABLE idempotency_keys ADD COLUMN principal text NOT NULL DEFAULT 'anonymous';
