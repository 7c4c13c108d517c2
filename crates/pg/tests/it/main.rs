//! What needs a real PostgreSQL: pools, migrations, leases, PgBouncer.

#![cfg(test)]

mod leases;
mod migrations;
mod pgbouncer;
mod pools;
mod waiting;
