//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `is_so`, and fails the test when it is not within `limit`.
pub async fn wait_for(what: &str, limit: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        let elapsed = begun.elapsed();
        assert!(elapsed < limit, "waited {elapsed:.1?} for {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_is_waited_for() {
        let mut looks = 0;
        let third = async || {
            looks += 1;
            looks == 3
        };
        wait_for("the third look", Duration::from_secs(5), third).await;
    }

    #[tokio::test]
    async fn a_condition_that_never_comes_true_fails_the_test_by_its_name() {
        let mut waiting = tokio::task::JoinSet::new();
        waiting.spawn(wait_for("Godot", Duration::from_millis(50), async || false));
        let panic = waiting.join_next().await.expect("an end").expect_err("a panic").into_panic();
        let words = panic.downcast_ref::<String>().expect("words");
        assert!(words.starts_with("waited ") && words.ends_with(" for Godot"), "{words}");
    }
}
