//! Which dead letters an operator has resolved.

use std::collections::{BTreeMap, BTreeSet};

/// The resolved dead letters of a dead letter topic, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolutions {
    settled: BTreeMap<i32, BTreeSet<i64>>,
}

impl Resolutions {
    /// Takes one resolution of `partition` over: the text of its value.
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

/// The text of a resolution of `offsets`.
pub fn write(offsets: &[i64]) -> String {
    offsets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut resolutions = Resolutions::default();
        resolutions.read(3, &write(&[1, 7, 19])).expect("a resolution");
        resolutions.read(3, &write(&[2])).expect("a resolution");
        assert!([1, 2, 7, 19].iter().all(|offset| resolutions.has(3, *offset)));
        assert!(!resolutions.has(3, 3) && !resolutions.has(4, 1));
    }

    #[test]
    fn what_is_no_resolution_is_refused_as_a_whole() {
        let mut resolutions = Resolutions::default();
        for text in ["", "1,,2", "one", "1;2"] {
            assert!(resolutions.read(0, text).is_err(), "{text}");
        }
        assert_eq!(resolutions, Resolutions::default());
    }
}
