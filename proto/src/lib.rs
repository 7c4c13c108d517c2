//! The gRPC contract between the services, generated from the `.proto` files beside this crate.
//!
//! These types end at the edges: services translate them into their own domain types at once.

/// Version 1 of every Flightbell service: messages, clients and servers.
#[allow(
    missing_docs,
    clippy::all,
    clippy::doc_markdown,
    clippy::too_many_lines,
    reason = "generated code; the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("flightbell.v1");
}
