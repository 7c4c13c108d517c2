/// How many replicas must have a record before it counts as kept: all but one from three on, so that
/// one broker may be away; below that, Kafka's own default.
pub fn least_in_sync(replication: u16) -> Option<u16> {
    (replication >= 3).then(|| replication - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_replica_may_be_away_from_three_on() {
        assert_eq!([1, 2, 3, 5].map(least_in_sync), [None, None, Some(2), Some(4)]);
    }
}
