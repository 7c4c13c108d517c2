//! The manners of our HTTP edges: how requests are read, answered, counted and repeated.

mod body;
pub mod idempotency;
mod observe;
mod page;
mod problem;
mod server;

pub use body::{Body, Fields, Given};
pub use page::{Page, PageQuery};
pub use problem::{FieldError, Problem, ProblemBody};
pub use server::{Routes, serve};
