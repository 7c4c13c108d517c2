//! What people must be told, and whether they were.

/// What a message says about an interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The value exceeded the high threshold.
    Raised,
    /// It is back within the thresholds.
    Recovered,
}

/// What follows from the values of a series, in their order, for whoever is told of values above `high`. A value that is
/// unknown changes nothing; before the first one everything is calm.
pub fn expected(values: &[Option<u32>], high: u32) -> Vec<Told> {
    let mut is_raised = false;
    let mut told = Vec::new();
    for value in values.iter().flatten() {
        let was_raised = std::mem::replace(&mut is_raised, *value > high);
        if is_raised != was_raised {
            told.push(if is_raised { Told::Raised } else { Told::Recovered });
        }
    }
    told
}

/// How what was told differs from what had to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Messages that had to come and did not.
    pub lost: usize,
    /// Messages that came once more than they had to.
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

/// Compares what one chat was told about one airport. Raises and recoveries alternate, so the second of two equal ones in
/// a row is a repetition.
pub fn compare(expected: &[Told], told: &[Told]) -> Differences {
    let mut once = told.to_vec();
    once.dedup();
    let is_from_the_beginning = once.first().is_none_or(|first| Some(first) == expected.first());
    let matched = if is_from_the_beginning { once.len().min(expected.len()) } else { 0 };
    Differences { lost: expected.len() - matched, repeated: told.len() - matched }
}

/// What a message says, and about which airport, if it is one of ours.
pub fn read_message(text: &str) -> Option<(String, Told)> {
    let (title, rest) = text.split_once('\n')?;
    let (_, code) = title.rsplit_once('(')?;
    let sentence = rest.lines().next()?;
    let told = if sentence.contains("exceeded the high threshold") {
        Told::Raised
    } else if sentence.contains("is back within the thresholds") {
        Told::Recovered
    } else {
        return None;
    };
    Some((code.trim_end_matches(')').to_owned(), told))
}

#[cfg(test)]
mod tests {
    use super::{Told::*, *};

    #[test]
    fn only_a_change_of_side_is_told_and_what_is_unknown_changes_nothing() {
        let values = [Some(6), None, Some(12), Some(12), None, Some(12), Some(10), Some(6), Some(12)];
        assert_eq!(expected(&values, 10), [Raised, Recovered, Raised]);
        assert_eq!(expected(&[None, None], 10), []);
    }

    #[test]
    fn what_is_missing_is_lost_and_what_came_twice_is_repeated() {
        let must = [Raised, Recovered, Raised];
        let differences = |lost, repeated| Differences { lost, repeated };
        assert!(compare(&must, &must).is_none());
        assert_eq!(compare(&must, &[Raised, Recovered]), differences(1, 0));
        assert_eq!(compare(&must, &[Raised, Recovered, Recovered, Raised]), differences(0, 1));
        assert_eq!(compare(&must, &[Raised, Recovered, Raised, Recovered]), differences(0, 1));
        assert_eq!(compare(&must, &[Raised, Raised]), differences(2, 1));
        assert_eq!(compare(&must, &[]), differences(3, 0));
        assert_eq!(compare(&must, &[Recovered, Raised]), differences(3, 2));
    }

    #[test]
    fn a_message_names_its_airport_and_says_what_happened() {
        let text =
            |sentence| format!("📈 Catania–Fontanarossa Airport (LICC)\nThe number of flights (12) {sentence}\nx: y");
        let read = |sentence| read_message(&text(sentence));
        assert_eq!(read("exceeded the high threshold of 10."), Some(("LICC".to_owned(), Raised)));
        assert_eq!(read("is back within the thresholds."), Some(("LICC".to_owned(), Recovered)));
        assert_eq!(read("is something else."), None);
        assert_eq!(read_message("hello"), None);
    }
}
