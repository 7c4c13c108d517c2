//! A call that outlives the replica it reached.

use std::error::Error;

use runtime::{backoff::DEAD_REPLICA, trace::RequestContext};
use tonic::{Code, Request, Response, Status};

use super::{DEADLINE, request};

/// How often a call is made again at most.
const MOST_REPEATS: u32 = 5;

/// Makes a call, again when the connection failed, within [`DEADLINE`] in all. What another service answered is never
/// asked again, whatever it is.
///
/// `call` hands the request to the client. It may be carried out twice: give one that changes nothing then, as all
/// calls between our services do.
///
/// # Errors
/// As the last attempt; `DEADLINE_EXCEEDED` when there was none in time.
pub async fn ask<C, M, T, F>(
    client: &C,
    message: M,
    context: &RequestContext,
    mut call: impl FnMut(C, Request<M>) -> F,
) -> Result<Response<T>, Status>
where
    C: Clone,
    M: Clone,
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut call = || call(client.clone(), request(message.clone(), context));
    let asked = async {
        for wait in (0..MOST_REPEATS).map(|failures| DEAD_REPLICA.whole(failures)) {
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
