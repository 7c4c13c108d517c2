//! A call that outlives the replica it reached.

use std::{error::Error, time::Duration};

use tonic::{Code, Response, Status};

use super::DEADLINE;

/// How long to wait before each further attempt. A replica that has just died is known as dead a moment later.
const WAITS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(450)];

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
        for wait in WAITS {
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
