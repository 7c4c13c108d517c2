use axum::{
    extract::{
        FromRequestParts, Path,
        path::ErrorKind,
        rejection::PathRejection::{self, FailedToDeserializePathParams},
    },
    http::request::Parts,
};

use super::Problem;

/// Stands for a segment that is no text: it names nothing that exists.
const NO_TEXT: &str = "\u{FFFD}";

/// The variable part of a path, decoded. One that is not UTF-8 is read as a name of nothing, so that
/// it is answered in the words of whatever was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParam(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathParam {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(path_param)) => Ok(Self(path_param)),
            Err(rejection) if is_no_text(&rejection) => Ok(Self(NO_TEXT.to_owned())),
            Err(rejection) => Err(Problem::internal("read a path", &rejection)),
        }
    }
}

fn is_no_text(rejection: &PathRejection) -> bool {
    let FailedToDeserializePathParams(failure) = rejection else { return false };
    matches!(failure.kind(), ErrorKind::InvalidUtf8InPathParam { .. })
}
