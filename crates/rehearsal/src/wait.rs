//! Waiting for what must come.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// How often something is looked at that is waited for.
pub const LOOK: Duration = Duration::from_millis(200);

/// Waits until `enough` holds, and tells after how long it did.
///
/// # Errors
/// When it does not within `limit`.
pub async fn wait_until<F>(what: &str, limit: Duration, mut enough: F) -> anyhow::Result<Duration>
where
    F: AsyncFnMut() -> anyhow::Result<bool>,
{
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < limit {
        match enough().await {
            Ok(true) => return Ok(begun.elapsed()),
            Ok(false) => last = None,
            Err(error) => last = Some(error),
        }
        sleep(LOOK).await;
    }
    match last {
        Some(error) => Err(error.context(format!("wait for {what}"))),
        None => bail!("waited {limit:?} in vain for {what}"),
    }
}
