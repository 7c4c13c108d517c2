//! Errors in words.

use std::error::Error;

/// An error with its causes, outermost first: `ask the service: connection refused`. Libraries tell little in their
/// own words and the rest in their causes; a cause that its error has repeated already is not told twice.
#[must_use]
pub fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut context = error.source();
    while let Some(error) = context {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        context = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Told {
        words: &'static str,
        #[source]
        context: Box<dyn Error + 'static>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let refused = Box::new(io::Error::other("connection refused"));
        let connect = Box::new(Told { words: "connect", context: refused });
        assert_eq!(chain_text(&Told { words: "ask", context: connect }), "ask: connect: connection refused");
        let refused = Box::new(io::Error::other("connection refused"));
        let repeats = Told { words: "connect: connection refused", context: refused };
        assert_eq!(chain_text(&repeats), "connect: connection refused");
    }
}
