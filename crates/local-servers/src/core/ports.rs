//! Which ports a server may listen on.

/// The lowest port that is tried: above the well-known ones of usual servers.
const LOWEST: u16 = 17_000;
/// The first ephemeral port of Linux by default; systems that cannot be asked start higher.
const USUAL_EPHEMERAL: u16 = 32_768;

/// The first port that the system gives to outgoing connections, out of Linux' own description.
/// A server that listened there could lose its port to one of them while it is started again.
pub(crate) fn first_ephemeral(description: Option<&str>) -> u16 {
    let first = description.and_then(|text| text.split_whitespace().next()).and_then(|port| port.parse().ok());
    first.filter(|port| *port > LOWEST + 1_000).unwrap_or(USUAL_EPHEMERAL)
}

/// Ports below `first_ephemeral`, in an order that differs from seed to seed, so that two data
/// directories seldom want the same one.
pub(crate) fn candidates(seed: u64, first_ephemeral: u16) -> impl Iterator<Item = u16> {
    let width = u64::from(first_ephemeral - LOWEST);
    // 7919 is prime and larger than any common factor that matters: the walk visits distinct ports.
    (0..200u64).filter_map(move |step| {
        let offset = (seed % width + step * 7919) % width;
        u16::try_from(offset).ok().map(|offset| LOWEST + offset)
    })
}

/// A number that follows from `text` and differs between texts (FNV-1a).
pub(crate) fn fingerprint(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_many_and_below_the_ephemeral_range() {
        let ports: std::collections::BTreeSet<u16> = candidates(fingerprint(b"/a"), 32_768).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| (LOWEST..32_768).contains(port)));
    }

    #[test]
    fn the_ephemeral_range_is_what_the_system_says() {
        assert_eq!(first_ephemeral(Some("40000\t60999\n")), 40_000);
        assert_eq!(first_ephemeral(None), 32_768);
        assert_eq!(first_ephemeral(Some("1024 65535")), 32_768);
    }
}
