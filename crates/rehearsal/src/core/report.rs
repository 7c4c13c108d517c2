//! The report: figures with what they were to be, as a page of Markdown.

use std::{fmt::Write, time::Duration};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub value: String,
    /// What it was to be; empty where nothing was promised.
    pub target: String,
    /// Whether it is so.
    pub holds: bool,
}

impl Figure {
    /// A figure that nothing was promised about.
    pub fn of(what: impl Into<String>, value: impl ToString) -> Self {
        Self { what: what.into(), value: value.to_string(), target: String::new(), holds: true }
    }

    /// A count that must be zero.
    pub fn none(what: impl Into<String>, count: i64) -> Self {
        Self { target: "0".to_owned(), holds: count == 0, ..Self::of(what, count) }
    }

    /// A count that must not be less.
    pub fn at_least(what: impl Into<String>, count: usize, least: usize) -> Self {
        Self { target: format!("at least {least}"), holds: count >= least, ..Self::of(what, count) }
    }

    /// A time that nothing was promised about.
    pub fn took(what: impl Into<String>, time: Duration) -> Self {
        Self::of(what, format!("{:.1} s", time.as_secs_f64()))
    }

    /// A time, and the longest that it may be.
    pub fn within(what: impl Into<String>, time: Duration, most: Duration) -> Self {
        Self { target: format!("at most {} s", most.as_secs()), holds: time <= most, ..Self::took(what, time) }
    }

    /// Something that must be the case, with what was seen of it.
    pub fn check(what: impl Into<String>, holds: bool, value: impl ToString) -> Self {
        Self { target: "yes".to_owned(), holds, ..Self::of(what, value) }
    }

    /// Something that must be the case.
    pub fn is(what: impl Into<String>, holds: bool) -> Self {
        Self::check(what, holds, if holds { "yes" } else { "no" })
    }
}

/// One part of the rehearsal.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its title.
    pub title: String,
    /// What was done, in a sentence or two.
    pub done: String,
    /// What came out.
    pub figures: Vec<Figure>,
    /// Tables of its own, in Markdown.
    pub more: String,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where and on what it ran.
    pub introduction: String,
    /// Why it ended before its end, if it did.
    pub broke_off: Option<String>,
    /// The parts, in their order.
    pub sections: Vec<Section>,
}

impl Report {
    /// The figures that are not what they were to be.
    pub fn misses(&self) -> Vec<String> {
        let broke_off = self.broke_off.iter().map(|why| format!("it broke off: {}", cell(why)));
        let figures =
            self.sections.iter().flat_map(|section| section.figures.iter().map(move |figure| (section, figure)));
        let missed = figures.filter(|(_, figure)| !figure.holds).map(|(section, figure)| {
            format!("{}: {} is {}, not {}", section.title, figure.what, cell(&figure.value), figure.target)
        });
        broke_off.chain(missed).collect()
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let mut page = format!("# Rehearsal\n\n{}\n", self.introduction);
        let misses = self.misses();
        if misses.is_empty() {
            page.push_str("\nEvery figure is what it was to be.\n");
        } else {
            page.push_str("\n**Not what they were to be:**\n\n");
            for miss in misses {
                line(&mut page, &format!("- {miss}"));
            }
        }
        for (number, section) in self.sections.iter().enumerate() {
            line(&mut page, &format!("\n## {}. {}\n\n{}", number + 1, section.title, section.done));
            if !section.figures.is_empty() {
                page.push_str("\n| figure | measured | to be |\n|---|---:|---|\n");
            }
            for figure in &section.figures {
                let miss = if figure.holds { "" } else { " **(missed)**" };
                line(
                    &mut page,
                    &format!("| {} | {}{miss} | {} |", cell(&figure.what), cell(&figure.value), figure.target),
                );
            }
            if !section.more.is_empty() {
                line(&mut page, &format!("\n{}", section.more.trim_end()));
            }
        }
        page
    }
}

/// The text as it fits into one cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn line(page: &mut String, text: &str) {
    // Writing to a string cannot fail.
    writeln!(page, "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: i64) -> Report {
        let figures = vec![
            Figure::none("lost alerts", lost),
            Figure::within("recovered", Duration::from_millis(2_250), Duration::from_secs(15)),
        ];
        let section =
            Section { title: "An outage".to_owned(), done: "Stopped.".to_owned(), figures, ..Section::default() };
        Report { introduction: "One node.".to_owned(), sections: vec![section], ..Report::default() }
    }

    #[test]
    fn a_figure_that_is_missed_is_said_at_the_top_and_in_its_row() {
        assert!(report(0).misses().is_empty());
        let page = report(0).markdown();
        assert!(page.contains("Every figure is what it was to be."), "{page}");
        assert!(page.contains("| recovered | 2.2 s | at most 15 s |"), "{page}");
        let page = report(3).markdown();
        assert!(page.contains("- An outage: lost alerts is 3, not 0"), "{page}");
        assert!(page.contains("| lost alerts | 3 **(missed)** | 0 |"), "{page}");
    }
    #[test]
    fn a_rehearsal_that_broke_off_is_no_success() {
        let mut report = report(0);
        report.broke_off = Some("kubectl ended with\nexit status | 1".to_owned());
        let page = report.markdown();
        assert!(page.contains("- it broke off: kubectl ended with exit status \\| 1"), "{page}");
        assert!(!page.contains("Every figure is what"), "{page}");
    }
}
