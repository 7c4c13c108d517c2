//! The report: figures with what they were to be, as a page of Markdown.

use std::fmt::Write;

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
    pub fn none(what: impl Into<String>, count: usize) -> Self {
        Self { target: "0".to_owned(), holds: count == 0, ..Self::of(what, count) }
    }

    /// A number of seconds, and the most that they may be.
    pub fn seconds(what: impl Into<String>, seconds: f64, most: f64) -> Self {
        let value = format!("{seconds:.1} s");
        Self { target: format!("at most {most:.0} s"), holds: seconds <= most, ..Self::of(what, value) }
    }

    /// Something that must be the case.
    pub fn check(what: impl Into<String>, holds: bool, value: impl ToString) -> Self {
        Self { target: "yes".to_owned(), holds, ..Self::of(what, value) }
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
    /// The parts, in their order.
    pub sections: Vec<Section>,
}

impl Report {
    /// The figures that are not what they were to be.
    pub fn misses(&self) -> Vec<String> {
        let figures =
            self.sections.iter().flat_map(|section| section.figures.iter().map(move |figure| (section, figure)));
        figures
            .filter(|(_, figure)| !figure.holds)
            .map(|(section, figure)| {
                format!("{}: {} is {}, not {}", section.title, figure.what, figure.value, figure.target)
            })
            .collect()
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
                line(&mut page, &format!("| {} | {}{miss} | {} |", figure.what, figure.value, figure.target));
            }
            if !section.more.is_empty() {
                line(&mut page, &format!("\n{}", section.more.trim_end()));
            }
        }
        page
    }
}

fn line(page: &mut String, text: &str) {
    // Writing to a string cannot fail.
    writeln!(page, "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: usize) -> Report {
        let figures = vec![Figure::none("lost alerts", lost), Figure::seconds("recovered", 2.25, 15.0)];
        let section =
            Section { title: "An outage".to_owned(), done: "Stopped.".to_owned(), figures, ..Section::default() };
        Report { introduction: "One node.".to_owned(), sections: vec![section] }
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
}
