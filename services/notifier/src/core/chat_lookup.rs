//! How soon user-manager is asked again for the chat of a person who had none, and for how long.

use std::time::Duration;

/// The longest wait between two look-ups, in intervals.
const LONGEST: u32 = 4;
/// A wait is this share of the time that has passed: a user who has just registered names a chat soon.
const SHARE: u32 = 10;

/// How long to wait before asking again for a chat, given how old the alert is; `None` when it has
/// been kept for as long as `max_wait` lasts.
#[must_use]
pub fn next_lookup(age: Duration, interval: Duration, max_wait: Duration) -> Option<Duration> {
    let left = max_wait.checked_sub(age).filter(|left| !left.is_zero())?;
    let wait = (age / SHARE).clamp(interval, interval * LONGEST);
    Some(wait.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_grow_rarer_and_end_with_the_longest_wait() {
        let look = |seconds| {
            let wait = next_lookup(Duration::from_secs(seconds), Duration::from_secs(15), Duration::from_secs(86_400));
            wait.map(|wait| wait.as_secs())
        };
        assert_eq!(look(0), Some(15));
        assert_eq!(look(300), Some(30));
        assert_eq!(look(80_000), Some(60));
        assert_eq!(look(86_390), Some(10));
        assert_eq!(look(86_400), None);
        assert_eq!(look(90_000), None);
    }
}
