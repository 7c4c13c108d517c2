use std::time::{Duration, Instant};

/// How long a client has been no steady member of its group, and when that is too long.
#[derive(Debug)]
pub struct Membership {
    patience: Duration,
    unsteady_since: Option<Instant>,
}

impl Membership {
    pub fn new(patience: Duration) -> Self {
        Self { patience, unsteady_since: None }
    }

    /// Notes what the client says of itself at `now`. Answers whether it is overdue.
    pub fn note(&mut self, steady: bool, now: Instant) -> bool {
        if steady {
            self.unsteady_since = None;
        } else {
            self.unsteady_since.get_or_insert(now);
        }
        self.is_overdue(now)
    }

    /// Whether the client is overdue; it may then take its time once more.
    pub fn take_overdue(&mut self, now: Instant) -> bool {
        let is_overdue = self.is_overdue(now);
        if is_overdue {
            self.unsteady_since = Some(now);
        }
        is_overdue
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.unsteady_since.is_some_and(|since| now.saturating_duration_since(since) >= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_comes_back_in_time_is_not_overdue() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut membership = Membership::new(Duration::from_secs(30));
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
}
