//! What was asked, for tests to look at.

use chrono::{DateTime, Utc};

/// The calls that OpenSky knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Signing in.
    Token,
    /// `/states/all`.
    States,
    /// `/flights/arrival`.
    Arrivals,
    /// `/flights/departure`.
    Departures,
}

/// How a client proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// By name and password, which OpenSky no longer looks at.
    Basic,
    /// By a token that is valid.
    Token,
    /// By a token that is not.
    WrongToken,
}

/// A request, and the status it was answered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// When it came, on the simulator's clock.
    pub at: DateTime<Utc>,
    /// Which call.
    pub endpoint: Endpoint,
    /// The query's pairs in their order; empty for signing in, whose form holds a secret.
    pub query: Vec<(String, String)>,
    /// Who asked.
    pub auth: Auth,
    /// The answer's status, also where the answer was then cut short or never sent.
    pub status: u16,
}

impl Request {
    /// The first value of a parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
