//! Numbers of bank accounts.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use iban::IbanLike;

/// The check digits that the rule of ISO 7064, MOD 97-10, can yield; the library takes others too.
const CHECK_DIGITS: RangeInclusive<u8> = 2..=98;

/// The number of a bank account, in upper case and without spaces. Its length and structure are those
/// of its country, and its check digits are right; whether the account exists cannot be told from here.
#[derive(Clone, PartialEq, Eq)]
pub struct Iban(String);

/// A text that is no IBAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongIban;

impl Iban {
    /// The number.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Iban {
    type Err = WrongIban;

    fn from_str(text: &str) -> Result<Self, WrongIban> {
        let number: String = text.chars().filter(|char| *char != ' ').map(|char| char.to_ascii_uppercase()).collect();
        let iban: iban::Iban = number.parse().map_err(|_| WrongIban)?;
        if !CHECK_DIGITS.contains(&iban.check_digits()) {
            return Err(WrongIban);
        }
        Ok(Self(iban.electronic_str().to_owned()))
    }
}

impl fmt::Display for WrongIban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an IBAN whose check digits are right")
    }
}

impl std::error::Error for WrongIban {}

#[cfg(test)]
mod tests {
    use super::*;

    fn iban(text: &str) -> Option<String> {
        text.parse::<Iban>().ok().map(|iban| iban.as_str().to_owned())
    }

    #[test]
    fn examples_of_the_registry_are_accepted() {
        for text in [
            "IT60 X054 2811 1010 0000 0123 456",
            "GB29 NWBK 6016 1331 9268 19",
            "NO93 8601 1117 947",
            "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
            "de89 3704 0044 0532 0130 00",
        ] {
            assert_eq!(iban(text), Some(text.replace(' ', "").to_uppercase()), "{text}");
        }
    }

    #[test]
    fn a_mistyped_number_is_refused() {
        for text in [
            "",
            "IT",
            "IT60X0542811101000000123457",
            "IT60X0542811101000000213456",
            "6060X0542811101000000123456",
            "ITX0X0542811101000000123456",
            "IT60X05428111010000001234\u{0}6",
            "IT60X05428111010000001234é",
            "NO938601111794",
            "GB29-NWBK-6016-1331-9268-19",
            "MT84MALT011000012345MTLCAST001S0000",
            // Of a length that Germany's never have, letters where Italy's have digits, a country that has none: the
            // check digits are right.
            "DE5137040044053201300",
            "IT13X0542811ABC000000123456",
            "US64SVBKUS6S3300958879",
        ] {
            assert_eq!(iban(text), None, "{text:?}");
        }
    }

    #[test]
    fn check_digits_that_the_rule_cannot_yield_are_refused() {
        // 00, 01 and 99 leave the same remainders as 97, 98 and 02.
        for check in ["00", "01", "99"] {
            for account in 0..97 {
                let text = format!("NO{check}{account:011}");
                assert_eq!(iban(&text), None, "{text}");
            }
        }
    }
}
