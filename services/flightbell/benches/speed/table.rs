//! What was measured, beside what is to be reached.

use std::fmt;

/// Where a figure has to lie.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Under(f64),
    Over(f64),
}

struct Figure {
    what: &'static str,
    target: Target,
    measured: f64,
    unit: &'static str,
    detail: String,
}

/// The figures in the order in which they were measured; shows as a table in Markdown.
#[derive(Default)]
pub struct Table {
    figures: Vec<Figure>,
}

/// The place of a percentile among `count` sorted values, by the nearest rank: the least value that so many percent do
/// not exceed.
pub fn rank(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).max(1) - 1
}

impl Table {
    /// Adds a figure and shows it at once: the whole takes minutes.
    pub fn add(&mut self, what: &'static str, target: Target, measured: f64, unit: &'static str, detail: String) {
        let figure = Figure { what, target, measured, unit, detail };
        println!("{figure}");
        self.figures.push(figure);
    }

    /// How many targets were missed.
    pub fn missed(&self) -> usize {
        self.figures.iter().filter(|figure| !figure.is_reached()).count()
    }
}

impl Figure {
    fn is_reached(&self) -> bool {
        match self.target {
            Target::Under(limit) => self.measured < limit,
            Target::Over(limit) => self.measured > limit,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, limit) = match self.target {
            Target::Under(limit) => ("under", limit),
            Target::Over(limit) => ("over", limit),
        };
        let verdict = if self.is_reached() { "ok" } else { "missed" };
        let (limit, measured) = (Grouped(limit), Grouped(self.measured));
        let (what, unit, detail) = (self.what, self.unit, &self.detail);
        write!(f, "| {what} | {word} {limit} {unit} | {measured} {unit} | {verdict} | {detail} |")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | target | measured | | how |\n|---|---|---|---|---|")?;
        self.figures.iter().try_for_each(|figure| writeln!(f, "{figure}"))
    }
}

/// A number with as many decimals as say something, and commas between thousands.
struct Grouped(f64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.abs() {
            100.0.. => format!("{:.0}", self.0),
            _ => format!("{:.1}", self.0),
        };
        let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        if matches!(rest, "" | "0") { Ok(()) } else { write!(f, ".{rest}") }
    }
}
