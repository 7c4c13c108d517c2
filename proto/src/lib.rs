#![doc = include_str!("../README.md")]

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
