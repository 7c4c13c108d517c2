//! ICAO codes, parsed once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The ICAO code of an airport: four letters or digits in upper case. That it is well formed does
/// not mean that such an airport exists: see [`crate::by_icao`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcaoCode([u8; 4]);

/// The text is not four ASCII letters or digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ICAO code is four letters or digits")]
pub struct InvalidIcaoCode;

impl IcaoCode {
    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII by construction, so this never takes the other way.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidIcaoCode> {
        let mut code: [u8; 4] = bytes.try_into().map_err(|_| InvalidIcaoCode)?;
        code.make_ascii_uppercase();
        if code.iter().all(u8::is_ascii_alphanumeric) { Ok(Self(code)) } else { Err(InvalidIcaoCode) }
    }

    pub(crate) fn bytes(self) -> [u8; 4] {
        self.0
    }
}

impl FromStr for IcaoCode {
    type Err = InvalidIcaoCode;

    /// Reads a code in any case, with or without space around it.
    fn from_str(text: &str) -> Result<Self, InvalidIcaoCode> {
        Self::from_bytes(text.trim().as_bytes())
    }
}

impl fmt::Display for IcaoCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IcaoCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcaoCode({self})")
    }
}

impl Serialize for IcaoCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for IcaoCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = IcaoCode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ICAO code")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IcaoCode, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_four_letters_or_digits_in_upper_case() {
        let code: IcaoCode = " lf7g ".parse().expect("a code");
        assert_eq!(
            (code.as_str(), code.to_string(), format!("{code:?}")),
            ("LF7G", "LF7G".into(), "IcaoCode(LF7G)".into())
        );
        assert_eq!(format!("{code:>6}"), "  LF7G");
        for text in ["", "LFP", "LFPGG", "LF-G", "LF G", "LFÉ", "ééé", "LFP\0"] {
            assert_eq!(text.parse::<IcaoCode>(), Err(InvalidIcaoCode), "{text:?}");
        }
    }

    #[test]
    fn a_code_travels_as_a_string() {
        let code: IcaoCode = serde_json::from_str(r#""ksfo""#).expect("a code");
        assert_eq!(serde_json::to_string(&code).expect("JSON"), r#""KSFO""#);
        let error = serde_json::from_str::<IcaoCode>("7").expect_err("a number is none");
        assert!(error.to_string().contains("expected an ICAO code"), "{error}");
        assert!(serde_json::from_str::<IcaoCode>(r#""SFO""#).is_err());
    }

    proptest! {
        #[test]
        fn parsing_what_was_shown_changes_nothing(text in "\\PC{0,5}") {
            if let Ok(code) = text.parse::<IcaoCode>() {
                prop_assert_eq!(code.to_string().parse::<IcaoCode>(), Ok(code));
                prop_assert_eq!(code.as_str(), text.trim().to_uppercase());
            }
        }
    }
}
