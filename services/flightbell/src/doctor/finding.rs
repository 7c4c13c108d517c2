use std::fmt;

use runtime::error::chain_text;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// How it is.
    pub(super) severity: Severity,
    what: &'static str,
    says: String,
    mend: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// As it should be.
    Fine,
    /// It works, and the operator should know.
    Note,
    /// It must be mended.
    Wrong,
}

impl Finding {
    pub(super) fn fine(what: &'static str, says: impl fmt::Display) -> Self {
        Self { severity: Severity::Fine, what, says: says.to_string(), mend: None }
    }

    pub(super) fn note(what: &'static str, says: impl fmt::Display, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Note, what, says: says.to_string(), mend: Some(mend.into()) }
    }

    pub(super) fn wrong(what: &'static str, says: impl fmt::Display, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Wrong, what, says: says.to_string(), mend: Some(mend.into()) }
    }

    /// A failure whose own words say how to mend it.
    pub(super) fn told(what: &'static str, error: &dyn std::error::Error) -> Self {
        Self { severity: Severity::Wrong, what, says: chain_text(error), mend: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Fine => "ok   ",
            Severity::Note => "note ",
            Severity::Wrong => "WRONG",
        };
        write!(f, "{mark}  {:<16} {}", self.what, self.says)?;
        match &self.mend {
            Some(mend) => write!(f, "\n       {:<16} mend: {mend}", ""),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_is_wrong_and_how_to_mend_it() {
        let text = Finding::wrong("java", "it is missing", "make deps").to_string();
        assert_eq!(text, "WRONG  java             it is missing\n                        mend: make deps");
    }
}
