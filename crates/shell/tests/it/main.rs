//! The parts of the shell that need a real PostgreSQL, and the manners of the HTTP edge.

#![cfg(test)]

mod calls;
mod edge;
mod idempotency;
mod jobs;
mod leases;
mod migrations;
mod pgbouncer;
mod pools;
mod proxies;
mod waiting;
