//! The manners of our HTTP edges: how requests are read, answered, counted and repeated.

mod body;
mod connections;
pub mod idempotency;
mod manners;
mod observe;
mod page;
mod problem;
mod segment;
mod server;

pub use body::{Body, Fields, Given, whole};
pub use connections::serve_connections;
pub use manners::well_mannered;
pub(crate) use manners::with_problems;
pub use page::{Page, PageQuery};
pub use problem::{FieldError, Problem, ProblemBody};
pub use segment::Segment;
pub use server::{Routes, serve};
