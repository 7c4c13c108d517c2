//! How an evaluation that fails is kept from holding up the others: a batch that fails is tried again in
//! halves, and what fails alone is set aside for longer and longer.

use std::time::Duration;

/// Evaluations that are worked on together at most.
pub const LARGEST_BATCH: usize = 500;

const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait after a failure that may pass, such as a partition without a leader.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait after a failure that would repeat itself. Another version may know what to do with it.
const LONGEST_PERMANENT_WAIT: Duration = Duration::from_secs(60);

/// How many to take after a batch of `claimed` failed.
#[must_use]
pub fn smaller_batch(claimed: usize) -> usize {
    (claimed / 2).max(1)
}

/// How many to take after a batch of at most `limit` went well.
#[must_use]
pub fn larger_batch(limit: usize) -> usize {
    (limit * 2).clamp(1, LARGEST_BATCH)
}

/// How long to set aside what has failed `failures` times before this one.
#[must_use]
pub fn wait(failures: u32, is_permanent: bool) -> Duration {
    let longest = if is_permanent { LONGEST_PERMANENT_WAIT } else { LONGEST_WAIT };
    FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_fails_is_found_in_a_few_steps_and_the_batch_grows_again() {
        let mut limit = LARGEST_BATCH;
        let mut steps = 0;
        while limit > 1 {
            limit = smaller_batch(limit);
            steps += 1;
        }
        assert_eq!((limit, steps, smaller_batch(1)), (1, 8, 1));
        for _ in 0..9 {
            limit = larger_batch(limit);
        }
        assert_eq!((limit, larger_batch(limit)), (LARGEST_BATCH, LARGEST_BATCH));
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let waits: Vec<_> = (0..5).map(|failures| wait(failures, false).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000]);
        assert_eq!((wait(u32::MAX, false), wait(u32::MAX, true)), (LONGEST_WAIT, LONGEST_PERMANENT_WAIT));
    }
}
