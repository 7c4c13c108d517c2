//! Who may reach what we open, as long as users do not sign in.

use std::net::SocketAddr;

use runtime::config::ConfigError;

/// Until people sign in, every caller that reaches an address can read and change everything behind it.
///
/// # Errors
/// When the address that `option` names is not on the loopback interface and the operator did not say that this is
/// meant.
pub fn refuse(option: &str, listen: SocketAddr, insecure_open: bool) -> Result<(), ConfigError> {
    if listen.ip().is_loopback() || insecure_open {
        return Ok(());
    }
    Err(ConfigError::of(format!(
        "{option} {listen} can be reached by others, and nobody has to sign in yet: whoever reaches it could read and \
         change everything; add --insecure-open if that is meant"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_opened_unless_somebody_says_so() {
        let open: SocketAddr = "0.0.0.0:8443".parse().expect("an address");
        let error = refuse("--page", open, false).expect_err("refused").to_string();
        assert!(error.contains("--page 0.0.0.0:8443") && error.contains("--insecure-open"), "{error}");
        refuse("--listen", open, true).expect("meant");
        refuse("--listen", SocketAddr::from(([127, 0, 0, 1], 8443)), false).expect("loopback");
        refuse("--listen", "[::1]:8443".parse().expect("an address"), false).expect("loopback");
    }
}
