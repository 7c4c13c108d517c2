//! What the operator can do about a problem that the client library reports.

const NAME_AND_PASSWORD: &str =
    "Kafka refuses the name or the password: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM";
const MECHANISM: &str = "Kafka does not take this way of signing in: check KAFKA_SASL_MECHANISM";
const CERTIFICATE: &str = "the broker's certificate cannot be verified: set KAFKA_CA_FILE to the certificate of its \
                           authority, and use in KAFKA_BROKER_URL a name that it is for";
const PROTOCOL: &str = "we and the broker's port do not speak the same protocol: check KAFKA_SECURITY_PROTOCOL";

const FIRST_WORD: &str =
    "the port closes the connection at our first word: if it is Kafka's, check KAFKA_SECURITY_PROTOCOL";

const SILENCE: &str = "the port takes the connection and says nothing: if the broker neither stands still nor has too much \
                       to do, check KAFKA_SECURITY_PROTOCOL";

/// By what the library's message contains, in lower case; the first that fits counts.
const KNOWN: [(&str, &str); 11] = [
    ("certificate verify failed", CERTIFICATE),
    ("unsupported sasl mechanism", MECHANISM),
    ("unable to find a callback", MECHANISM),
    ("authentication fail", NAME_AND_PASSWORD),
    ("sasl authentication error", NAME_AND_PASSWORD),
    ("invalid credentials", NAME_AND_PASSWORD),
    ("wrong version number", PROTOCOL),
    ("security.protocol configuration", PROTOCOL),
    ("plaintext broker listener", PROTOCOL),
    ("setup timed out in state apiversion_query", SILENCE),
    ("in state apiversion_query", FIRST_WORD),
];

/// What to do about `problem`, where the operator has to do something.
pub fn advice(problem: &str) -> Option<&'static str> {
    let problem = problem.to_lowercase();
    KNOWN.iter().find(|(words, _)| problem.contains(words)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_must_mend_is_said_and_what_passes_is_not() {
        for (problem, key) in [
            ("SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: (install ca)", "CA_FILE"),
            ("Disconnected: connection closed by peer (after 34ms in state APIVERSION_QUERY)", "SECURITY_PROTOCOL"),
            ("SASL authentication error: Authentication failed during authentication due to invalid", "PASSWORD"),
            (
                "Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration",
                "SECURITY_PROTOCOL",
            ),
        ] {
            assert!(advice(problem).is_some_and(|advice| advice.contains(key)), "{problem}");
        }
        let frozen = "127.0.0.1:9092/1: Connection setup timed out in state APIVERSION_QUERY (after 10001ms)";
        assert!(advice(frozen).is_some_and(|advice| advice.contains("stands still")), "{frozen}");
        for problem in ["1/1 brokers are down", "Connect to ipv4#127.0.0.1:9 failed: Connection refused", ""] {
            assert_eq!(advice(problem), None, "{problem}");
        }
    }
}
