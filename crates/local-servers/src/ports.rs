//! Free ports on loopback.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
};

use crate::{
    core::ports::{candidates, first_ephemeral},
    error::Error,
};

/// As many free loopback ports below the ephemeral range: a server keeps its port over restarts, and
/// an outgoing connection must not take it meanwhile.
pub(crate) fn free(seed: u64, count: usize) -> Result<Vec<u16>, Error> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let ports = candidates(seed, first_ephemeral(range.as_deref()));
    let free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let free: Vec<u16> = free.take(count).collect();
    if free.len() == count { Ok(free) } else { Err(Error::NoPort) }
}
