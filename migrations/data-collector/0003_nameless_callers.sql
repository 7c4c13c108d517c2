-- Keys are found by a hash of their caller (shell::http::idempotency::nameless): they are kept for a
-- day, also when the caller is deleted meanwhile, and the address should not outlast the deletion.
UPDATE idempotency_keys SET caller = encode(sha256(convert_to(caller, 'UTF8')), 'hex');
