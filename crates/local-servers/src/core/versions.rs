//! Versions, out of what programs and files say.

/// The first quoted version in the answer of `java -version`, such as `17.0.15` or `1.8.0_402`.
pub(crate) fn java(answer: &str) -> Option<&str> {
    answer.split('"').nth(1).filter(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// The major version of Java, counting `1.8` as 8.
pub(crate) fn java_major(version: &str) -> Option<u32> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match parts.next()?.ok()? {
        1 => parts.next()?.ok(),
        major => Some(major),
    }
}

/// The major version in the answer of `postgres --version`, as `PG_VERSION` has it.
pub(crate) fn postgres_major(answer: &str) -> Option<&str> {
    let version = answer.split_whitespace().nth(2)?;
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?;
    (!major.is_empty()).then_some(major)
}

/// Kafka's version in the name of its jar, such as `kafka_2.13-4.3.1.jar`.
pub(crate) fn kafka(file: &str) -> Option<&str> {
    let version = file.strip_prefix("kafka_")?.strip_suffix(".jar")?.split_once('-')?.1;
    version.starts_with(|first: char| first.is_ascii_digit()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_of_every_age_tells_its_version() {
        let told = |answer| java(answer).and_then(java_major);
        assert_eq!(told("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(told("java version \"1.8.0_402\""), Some(8));
        assert_eq!(told("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(told("The operation couldn't be completed."), None);
    }

    #[test]
    fn postgres_tells_its_major_version() {
        assert_eq!(postgres_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some("15"));
        assert_eq!(postgres_major("postgres (PostgreSQL) 18beta1"), Some("18"));
        assert_eq!(postgres_major(""), None);
    }

    #[test]
    fn the_jar_tells_kafkas_version() {
        assert_eq!(kafka("kafka_2.13-4.3.1.jar"), Some("4.3.1"));
        assert_eq!(kafka("kafka-clients-4.3.1.jar"), None);
        assert_eq!(kafka("kafka_2.13-4.3.1-sources.txt"), None);
    }
}
