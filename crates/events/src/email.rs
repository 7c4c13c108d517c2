use std::{fmt, str::FromStr};

use serde::Serialize;

/// The longest address that SMTP can carry (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const LONGEST: usize = 254;
/// The longest part before the `@` (RFC 5321, section 4.5.3.1.1).
const LONGEST_LOCAL: usize = 64;
/// The longest label of a host name (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// An e-mail address, trimmed and in lower case, so that two spellings of one address are equal.
///
/// It must look like an address that mail can reach: an unquoted ASCII local part, and a host name of at least two
/// labels. Whether it exists cannot be told from here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct EmailAddress(String);

/// A text that is no e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongEmailAddress;

impl EmailAddress {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = WrongEmailAddress;

    fn from_str(text: &str) -> Result<Self, WrongEmailAddress> {
        let text = text.trim();
        let (local, host) = text.rsplit_once('@').ok_or(WrongEmailAddress)?;
        if text.len() <= LONGEST && is_local(local) && is_host(host) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(WrongEmailAddress)
        }
    }
}

/// A dot-atom of RFC 5322, section 3.2.3.
fn is_local(local: &str) -> bool {
    local.len() <= LONGEST_LOCAL
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
        })
}

/// A host name of RFC 1123, section 2.1, with at least two labels, of which the last is not a number:
/// an IP address is no host name.
fn is_host(host: &str) -> bool {
    let top = host.rsplit_once('.').map(|(_, top)| top);
    top.is_some_and(|top| !top.bytes().all(|byte| byte.is_ascii_digit()))
        && host.split('.').all(|label| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Addresses are personal: they do not appear in debug output, which ends up in logs.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

impl fmt::Display for WrongEmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an e-mail address like ada@example.org")
    }
}

impl std::error::Error for WrongEmailAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_address_are_equal() {
        let one: EmailAddress = " Ada.Lovelace+air@Example.ORG ".parse().expect("an address");
        assert_eq!(one.as_str(), "ada.lovelace+air@example.org");
    }

    #[test]
    fn what_mail_cannot_reach_is_refused() {
        let long = format!("{}@example.org", "x".repeat(65));
        for text in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@localhost",
            "ada@@example.org",
            "a da@example.org",
            ".ada@example.org",
            "ada.@example.org",
            "a..b@example.org",
            "ada@-example.org",
            "ada@example..org",
            "ada@example.org.",
            "ada@127.0.0.1",
            "\"ada\"@example.org",
            "ada@exämple.org",
            "ada\0@example.org",
            "ada@example.org\nBcc: eve@example.org",
            &long,
        ] {
            assert!(text.parse::<EmailAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_part_takes_its_own_characters_and_no_others() {
        let is_taken = |text: String| text.parse::<EmailAddress>().is_ok();
        for character in (0..=127u8).map(char::from).filter(|character| *character != '@') {
            let is_atom = character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character);
            assert_eq!(is_taken(format!("a{character}b@example.org")), is_atom || character == '.', "{character:?}");
            let is_label = character.is_ascii_alphanumeric();
            for host in [format!("{character}ab.org"), format!("ab{character}.org"), format!("ab.org{character}x")] {
                let expected = is_label || (matches!(character, '-' | '.') && host.ends_with('x'));
                assert_eq!(is_taken(format!("ada@{host}")), expected, "{host:?}");
            }
        }
        for host in [format!("{}.org", "a".repeat(64)), format!("{}.org", "a.".repeat(130))] {
            assert!(!is_taken(format!("ada@{host}")), "{host}");
        }
    }

    #[test]
    fn debug_output_does_not_show_the_address() {
        let address: EmailAddress = "ada@example.org".parse().expect("an address");
        assert!(!format!("{address:?}").contains("ada"));
    }
}
