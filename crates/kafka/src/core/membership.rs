use std::time::{Duration, Instant};

/// Whether a client is a steady member of its group, since when, and when its absence is too long.
#[derive(Debug)]
pub struct Membership {
    rejoin_timeout: Duration,
    grace: Duration,
    member_since: Option<Instant>,
    absent_since: Instant,
    /// The same, but counted anew with each client that replaces one which did not get back.
    unsteady_since: Option<Instant>,
}

/// Where a consumer stands with its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member since then.
    Member(Instant),
    /// No member for so long, which is no more than joining may take.
    Joining(Duration),
    /// No member for so long, and that is too long.
    Out(Duration),
}

impl Membership {
    /// No member yet. A client is replaced when it is absent for `rejoin_timeout`; the consumer counts
    /// as out of its group when it is absent for `grace`.
    pub fn new(rejoin_timeout: Duration, grace: Duration, now: Instant) -> Self {
        Self { rejoin_timeout, grace, member_since: None, absent_since: now, unsteady_since: None }
    }

    /// Notes what the client says of itself at `now`. Answers whether it is overdue.
    pub fn note(&mut self, steady: bool, now: Instant) -> bool {
        if steady {
            self.unsteady_since = None;
            self.member_since.get_or_insert(now);
        } else {
            self.unsteady_since.get_or_insert(now);
            self.absent(now);
        }
        self.is_overdue(now)
    }

    /// Kafka answers nobody at `now`. The time in which a client has to get back begins when it does.
    pub fn kafka_is_away(&mut self, now: Instant) {
        if let Some(since) = &mut self.unsteady_since {
            *since = now;
        }
    }

    /// The client is replaced at `now`.
    pub fn replaced(&mut self, now: Instant) {
        self.unsteady_since = None;
        self.absent(now);
    }

    /// Whether the client is overdue; it may then take its time once more.
    pub fn take_overdue(&mut self, now: Instant) -> bool {
        let is_overdue = self.is_overdue(now);
        if is_overdue {
            self.unsteady_since = Some(now);
        }
        is_overdue
    }

    /// Where the consumer stands at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        let absent = now.saturating_duration_since(self.absent_since);
        match self.member_since {
            Some(since) => Standing::Member(since),
            None if absent < self.grace => Standing::Joining(absent),
            None => Standing::Out(absent),
        }
    }

    fn absent(&mut self, now: Instant) {
        if self.member_since.take().is_some() {
            self.absent_since = now;
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.unsteady_since.is_some_and(|since| now.saturating_duration_since(since) >= self.rejoin_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REJOIN_TIMEOUT: Duration = Duration::from_secs(30);
    const GRACE: Duration = Duration::from_secs(20);

    #[test]
    fn a_member_that_comes_back_in_time_is_not_overdue() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut membership = Membership::new(REJOIN_TIMEOUT, GRACE, start);
        assert!(!membership.note(false, after(0)));
        assert!(!membership.note(false, after(29)));
        assert!(!membership.note(true, after(29)));
        assert!(!membership.note(false, after(40)));
        assert!(!membership.take_overdue(after(69)));
        assert!(membership.note(false, after(70)));
        assert!(membership.take_overdue(after(71)));
        assert!(!membership.take_overdue(after(72)), "it may take its time once more");
        assert!(membership.take_overdue(after(101)));
    }

    #[test]
    fn a_client_has_its_time_to_come_back_from_the_moment_that_kafka_answers_again() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut membership = Membership::new(REJOIN_TIMEOUT, GRACE, start);
        membership.note(true, after(0));
        membership.kafka_is_away(after(5));
        assert!(!membership.note(false, after(10)));
        for second in 10..=28 {
            membership.kafka_is_away(after(second));
        }
        // The member that it was has to expire first: joining takes a session, however long the outage was.
        assert!(!membership.take_overdue(after(40)));
        assert!(!membership.note(false, after(57)));
        assert!(membership.take_overdue(after(58)));
        assert_eq!(membership.standing(after(58)), Standing::Out(Duration::from_secs(48)), "and is out all the while");
    }

    #[test]
    fn a_consumer_is_out_of_its_group_after_a_grace_that_a_new_client_does_not_renew() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let absent = |seconds| Standing::Out(Duration::from_secs(seconds));
        let mut membership = Membership::new(REJOIN_TIMEOUT, GRACE, start);
        assert_eq!(membership.standing(after(19)), Standing::Joining(Duration::from_secs(19)));
        assert_eq!(membership.standing(after(20)), absent(20));
        membership.replaced(after(30));
        assert_eq!(membership.standing(after(31)), absent(31));
        membership.note(true, after(40));
        membership.note(true, after(45));
        assert_eq!(membership.standing(after(50)), Standing::Member(after(40)));
        membership.note(false, after(60));
        assert_eq!(membership.standing(after(70)), Standing::Joining(Duration::from_secs(10)));
        membership.replaced(after(75));
        assert_eq!(membership.standing(after(80)), absent(20));
    }
}
