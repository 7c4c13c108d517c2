//! What needs a real PostgreSQL: pools, migrations, leases, jobs, PgBouncer.

#![cfg(test)]

mod jobs;
mod leases;
mod migrations;
mod pgbouncer;
mod pools;
mod waiting;
