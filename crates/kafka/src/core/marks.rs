//! Which dead letters somebody has settled.

use std::collections::{BTreeMap, BTreeSet};

/// The settled letters of a dead letter topic, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    settled: BTreeMap<i32, BTreeSet<i64>>,
}

impl Marks {
    /// Takes one mark of `partition` over: the text of its value.
    ///
    /// # Errors
    /// When the text is not a list of offsets.
    pub fn read(&mut self, partition: i32, text: &str) -> Result<(), std::num::ParseIntError> {
        let offsets: Vec<i64> = text.split(',').map(|offset| offset.trim().parse()).collect::<Result<_, _>>()?;
        self.settled.entry(partition).or_default().extend(offsets);
        Ok(())
    }

    pub fn has(&self, partition: i32, offset: i64) -> bool {
        self.settled.get(&partition).is_some_and(|offsets| offsets.contains(&offset))
    }
}

/// The text of a mark that settles `offsets`.
pub fn write(offsets: &[i64]) -> String {
    offsets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut marks = Marks::default();
        marks.read(3, &write(&[1, 7, 19])).expect("a mark");
        marks.read(3, &write(&[2])).expect("a mark");
        assert!([1, 2, 7, 19].iter().all(|offset| marks.has(3, *offset)));
        assert!(!marks.has(3, 3) && !marks.has(4, 1));
    }

    #[test]
    fn what_is_no_mark_is_refused_as_a_whole() {
        let mut marks = Marks::default();
        for text in ["", "1,,2", "one", "1;2"] {
            assert!(marks.read(0, text).is_err(), "{text}");
        }
        assert_eq!(marks, Marks::default());
    }
}
