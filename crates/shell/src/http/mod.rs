//! The manners of our HTTP edges: how requests are read, answered, counted and repeated.

mod body;
mod connections;
pub mod idempotency;
mod in_flight;
mod manners;
mod observe;
mod page;
mod problem;
mod segment;
mod server;
mod strict;

pub use body::{Body, Fields, Given, whole};
pub(crate) use connections::TOO_MANY;
pub use connections::{ConnectionLimits, serve_connections, serve_connections_within};
pub use in_flight::bounded;
pub(crate) use in_flight::bounded_or;
pub use manners::well_mannered;
pub(crate) use manners::with_problems;
pub use page::{Page, PageQuery};
pub use problem::{FieldError, Problem, ProblemBody};
pub use segment::Segment;
pub use server::{Routes, serve};
