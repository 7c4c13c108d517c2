//! The whole service on a real PostgreSQL and a real Kafka, with OpenSky's simulator and a small
//! user-manager of the tests' own.
#![cfg(test)]

mod slow_database;
mod slow_neighbour;
mod support;

mod bad_days;
mod clocks;
mod collection;
mod costs;
mod crashes;
mod credits;
mod doubts;
mod evaluations;
mod fan_out;
mod indices;
mod interests;
mod kept_counts;
mod outages;
mod replay;
mod retention;
mod watched;
