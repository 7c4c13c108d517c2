//! Tax codes of any country.

use std::{fmt, str::FromStr};

/// The longest tax code that is accepted, in characters without separators. The longest in use that
/// we know of has 18 (China's, of organisations); the rest is room.
const LONGEST: usize = 32;

/// What people write between groups of characters.
const SEPARATORS: [char; 4] = [' ', '-', '.', '/'];

/// A tax code: an Italian *codice fiscale* or what another country uses, without separators and in
/// upper case, so that two spellings of one code are equal. Countries differ, so no pattern of one
/// of them is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct TaxCode(String);

/// A text that is no tax code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongTaxCode;

impl TaxCode {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaxCode {
    type Err = WrongTaxCode;

    fn from_str(text: &str) -> Result<Self, WrongTaxCode> {
        let code: String = text.trim().chars().filter(|char| !SEPARATORS.contains(char)).collect();
        let fits = (1..=LONGEST).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(code.to_ascii_uppercase())) } else { Err(WrongTaxCode) }
    }
}

impl fmt::Display for WrongTaxCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must have 1 to {LONGEST} letters and digits")
    }
}

impl std::error::Error for WrongTaxCode {}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<String> {
        text.parse::<TaxCode>().ok().map(|code| code.as_str().to_owned())
    }

    #[test]
    fn two_spellings_of_one_code_are_equal() {
        assert_eq!(code(" rss-mra 85t10 a562s "), Some("RSSMRA85T10A562S".to_owned()));
        assert_eq!(code("12/345/67890"), Some("1234567890".to_owned()));
    }

    #[test]
    fn what_no_country_uses_is_refused() {
        for text in ["", "--", "ÀBC", "AB\0C", "AB_C", "<b>", &"1".repeat(33)] {
            assert_eq!(code(text), None, "{text:?}");
        }
        assert!(code(&"1".repeat(32)).is_some());
    }
}
