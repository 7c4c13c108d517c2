//! What people must be told, and whether they were.

/// What a message says about an interest: what happened, and the number that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The value exceeded the high threshold.
    Raised(u32),
    /// It is back within the thresholds.
    Recovered(u32),
}

/// What follows from the values of a series, in their order, for whoever is told of values above `high`. A value that
/// is unknown changes nothing; before the first one everything is calm.
pub fn expected(values: &[Option<u32>], high: u32) -> Vec<Told> {
    let mut is_raised = false;
    let mut told = Vec::new();
    for &value in values.iter().flatten() {
        let was_raised = std::mem::replace(&mut is_raised, value > high);
        if is_raised != was_raised {
            told.push(if is_raised { Told::Raised(value) } else { Told::Recovered(value) });
        }
    }
    told
}

/// How what was told differs from what had to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Messages that had to come and did not.
    pub lost: usize,
    /// Messages that came and did not have to, or not once more, or not then.
    pub repeated: usize,
}

impl Differences {
    /// Whether everything was told, once, in its order.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The differences of several interests together.
    pub fn plus(self, other: Self) -> Self {
        Self { lost: self.lost + other.lost, repeated: self.repeated + other.repeated }
    }
}

/// Compares what one chat was told about one airport with what it had to be, in order: what has no partner in the
/// longest common subsequence was lost or repeated.
pub fn compare(expected: &[Told], told: &[Told]) -> Differences {
    if expected == told {
        return Differences::default();
    }
    let mut row = vec![0; told.len() + 1];
    for must in expected {
        let mut diagonal = 0;
        for (place, came) in told.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if must == came { diagonal + 1 } else { above.max(row[place]) };
            diagonal = above;
        }
    }
    let common = row[told.len()];
    Differences { lost: expected.len() - common, repeated: told.len() - common }
}

/// What a message says, and about which airport; none when it says something else.
pub fn read_message(text: &str) -> Option<(String, Told)> {
    let (title, rest) = text.split_once('\n')?;
    let (_, code) = title.rsplit_once('(')?;
    let sentence = rest.lines().next()?.strip_prefix("The number of flights (")?;
    let (value, what) = sentence.split_once(") ")?;
    let value = value.parse().ok()?;
    let told = if what.starts_with("exceeded the high threshold") {
        Told::Raised(value)
    } else if what.starts_with("is back within the thresholds") {
        Told::Recovered(value)
    } else {
        return None;
    };
    Some((code.strip_suffix(')')?.to_owned(), told))
}

#[cfg(test)]
mod tests {
    use super::{Told::*, *};

    #[test]
    fn only_a_change_of_side_is_told_and_what_is_unknown_changes_nothing() {
        let values = [Some(6), None, Some(12), Some(13), None, Some(12), Some(10), Some(6), Some(14)];
        assert_eq!(expected(&values, 10), [Raised(12), Recovered(10), Raised(14)]);
        assert_eq!(expected(&[None, None], 10), []);
    }

    #[test]
    fn what_is_missing_is_lost_and_what_came_twice_is_repeated_also_when_both_happen() {
        let must = [Raised(12), Recovered(6), Raised(13), Recovered(7)];
        let differences = |lost, repeated| Differences { lost, repeated };
        assert!(compare(&must, &must).is_none());
        assert_eq!(compare(&must, &must[..2]), differences(2, 0));
        assert_eq!(compare(&must, &[]), differences(4, 0));
        assert_eq!(compare(&must, &[must[0], must[1], must[1], must[2], must[3]]), differences(0, 1));
        // A pair is lost, and another told twice.
        assert_eq!(compare(&must, &[must[2], must[3], must[2], must[3]]), differences(2, 2));
        assert_eq!(compare(&must, &[must[1], must[0], must[2], must[3]]), differences(1, 1));
        assert_eq!(compare(&[], &must), differences(0, 4));
    }

    #[test]
    fn a_message_names_its_airport_and_says_what_happened() {
        let title = "📈 Catania–Fontanarossa Airport (LICC)\nThe number of flights";
        let read = |sentence: &str| read_message(&format!("{title} {sentence}\nx: y"));
        assert_eq!(read("(12) exceeded the high threshold of 10."), Some(("LICC".to_owned(), Raised(12))));
        assert_eq!(read("(6) is back within the thresholds."), Some(("LICC".to_owned(), Recovered(6))));
        assert_eq!(read("(6) is something else."), None);
        assert_eq!(read("(many) exceeded the high threshold of 10."), None);
        assert_eq!(read_message("hello"), None);
    }
}
