//! The HTTP edge over real connections and a real PostgreSQL.

#![cfg(test)]

mod edge;
mod idempotency;
mod principals;
