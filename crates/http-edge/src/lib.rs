#![doc = include_str!("../README.md")]

pub mod admin;
pub mod database;
pub mod idempotency;
pub mod metrics;

mod access;
mod body;
mod connections;
mod in_flight;
mod middleware;
mod mutation;
mod observe;
mod page;
mod path_param;
mod problem;
mod server;
mod strict;
mod timestamp;

pub use access::{Access, CurrentPrincipal, POLICY, Policy, RouteAccess, RouteTable, differences as route_differences};
pub use body::{Body, JsonFields, Patch, read_body};
pub use connections::{ConnectionLimits, TOO_MANY, serve_connections, serve_connections_within};
pub use in_flight::{bounded, bounded_or};
pub use middleware::with_middleware;
pub(crate) use middleware::with_problems;
pub use mutation::{Mutation, Settled};
pub use page::{Page, PageQuery};
pub use path_param::PathParam;
pub use problem::{FieldError, Problem, ProblemBody};
pub use server::{Routes, serve};
pub use timestamp::timestamp;
