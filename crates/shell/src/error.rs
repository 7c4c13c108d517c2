//! Errors in words.

use std::error::Error;

/// An error with its causes, outermost first, for a log line or a person. What is an [`anyhow::Error`] already says
/// the same by `{:#}`.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let error = anyhow::anyhow!("no route").context("connect").context("ask");
        assert_eq!(with_causes(error.as_ref()), "ask: connect: no route");
        assert_eq!(with_causes(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
