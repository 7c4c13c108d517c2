//! A call that outlives the replica it reached.

use std::{error::Error, time::Duration};

use tonic::{Code, Response, Status};

use super::DEADLINE;

/// How long to wait in milliseconds before each further attempt. Together it is longer than a cluster takes to notice
/// that a replica has died, until when half of the attempts still reach it where there are two.
const WAITS: [u64; 5] = [50, 100, 200, 400, 800];

/// Makes a call, again when the connection failed, within [`DEADLINE`] in all. What another service answered is never
/// asked again, whatever it is.
///
/// `call` may be carried out twice: give one that changes nothing then, as all calls between our services do.
///
/// # Errors
/// As the last attempt; `DEADLINE_EXCEEDED` when there was none in time.
pub async fn ask<T, F>(mut call: impl FnMut() -> F) -> Result<Response<T>, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let asked = async {
        for wait in WAITS.map(Duration::from_millis) {
            match call().await {
                Err(status) if is_of_the_connection(&status) => {
                    tracing::debug!("ask again in {wait:?}: {}", status.message());
                    tokio::time::sleep(wait).await;
                }
                answered => return answered,
            }
        }
        call().await
    };
    let asked = tokio::time::timeout(DEADLINE, asked).await;
    asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

/// Whether the connection failed before an answer came. A status that a server has sent has no source.
fn is_of_the_connection(status: &Status) -> bool {
    status.source().is_some() && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal)
}
