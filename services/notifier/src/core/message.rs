//! What a person reads.
//!
//! Everything that comes from outside is escaped and kept within a length of its own, so that the
//! whole never exceeds Telegram's limit, and nothing is ever cut inside a tag or an entity.

use std::{borrow::Cow, fmt::Write};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use events::{AlertKind, Crossing, FlightCount};
use serde::{Deserialize, Serialize};

/// The longest text that Telegram takes, in UTF-16 units. Telegram counts after the markup is
/// removed; we keep to it with the markup, which is on the safe side.
pub const LONGEST: usize = 4096;
/// Shares of [`LONGEST`] in UTF-16 units, markup included; together with our own words they fit.
const LONGEST_CONDITION: usize = 1900;
const LONGEST_MISSED: usize = 800;
const LONGEST_NAME: usize = 320;
const LONGEST_CODE: usize = 80;
const LONGEST_METRIC: usize = 80;
const LONGEST_SOURCE: usize = 400;

/// An alert, as far as it is told to people, and as the ledger keeps it in JSON. Of the oldest kind of message only
/// the airport and the condition are known, and rows of earlier versions have no numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// ICAO code.
    pub airport_code: String,
    /// What happened, as it was sent: repeated word for word where no sentence can be made of the rest.
    // Written for every kind, since a replica of an earlier version, which may share the ledger for a while, shows
    // nothing else and cannot read a row without it. A version that follows may leave it out where it is not needed.
    #[serde(default)]
    pub condition: String,
    /// What kind of event it was, by name.
    pub kind: Option<String>,
    /// The number of flights that was read.
    pub flight_count: Option<FlightCount>,
    /// The threshold that was crossed.
    pub threshold: Option<FlightCount>,
    /// What was counted, by name.
    pub metric: Option<String>,
    /// The reading behind it.
    pub reading: Option<Reading>,
}

impl Alert {
    /// What happened, as a sentence: made here of kind and numbers, and as it was sent where this version does not
    /// know the kind or has no numbers.
    fn sentence(&self) -> Cow<'_, str> {
        let kind = self.kind.as_deref().and_then(AlertKind::from_name);
        let crossing = kind.zip(self.flight_count).and_then(|(kind, read)| Crossing::new(kind, read, self.threshold));
        crossing.map_or(Cow::Borrowed(&self.condition), |crossing| Cow::Owned(crossing.to_string()))
    }
}

/// The reading behind an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Start of the time that was counted.
    pub window_begin: DateTime<Utc>,
    /// End of the time that was counted.
    pub window_end: DateTime<Utc>,
    /// When the source was asked.
    pub observed_at: DateTime<Utc>,
    /// The source, in words.
    pub source: String,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markup {
    /// Telegram's HTML.
    Html,
    /// Plain text, for when Telegram did not understand the markup.
    None,
}

/// Writes `alert` as it is read at `now`; `airport_name` is the name of the airport, if it is known, and
/// `missed` an earlier alert about the same that the person never got.
#[must_use]
pub fn compose(
    alert: &Alert,
    airport_name: Option<&str>,
    missed: Option<&Alert>,
    now: DateTime<Utc>,
    markup: Markup,
) -> String {
    let (bold, end) = match markup {
        Markup::Html => ("<b>", "</b>"),
        Markup::None => ("", ""),
    };
    let put = |text: &str, longest| fit(text, longest, markup);
    let code = put(&one_line(&alert.airport_code), LONGEST_CODE);
    let airport =
        airport_name.map_or_else(|| code.clone(), |name| format!("{} ({code})", put(&one_line(name), LONGEST_NAME)));
    let sign = sign(alert.kind.as_deref());
    let mut text = format!("{sign} {bold}{airport}{end}\n{}", put(&alert.sentence(), LONGEST_CONDITION));
    if let Some(missed) = missed {
        write_line(&mut text, "Not delivered before", &put(&one_line(&missed.sentence()), LONGEST_MISSED));
    }
    if let Some(metric) = &alert.metric {
        write_line(&mut text, "Counted", &put(&metric_in_words(metric), LONGEST_METRIC));
    }
    if let Some(reading) = &alert.reading {
        write_line(&mut text, "Window", &window(reading.window_begin, reading.window_end));
        write_line(&mut text, "Source", &put(&one_line(&reading.source), LONGEST_SOURCE));
        let observed = format!("{}, {}", moment(reading.observed_at), age(now - reading.observed_at));
        write_line(&mut text, "Observed", &observed);
    }
    text
}

fn write_line(text: &mut String, title: &str, value: &str) {
    // Writing to a string cannot fail.
    write!(text, "\n{title}: {value}").unwrap_or_default();
}

const fn is_control(character: char) -> bool {
    character.is_ascii_control() || matches!(character, '\u{80}'..='\u{9f}')
}

/// The text without line breaks, which would let a field pass for several.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_whitespace() { ' ' } else { character }).collect()
}

/// The text, escaped, within `longest` UTF-16 units; where something had to go, `…` stands at the end.
fn fit(text: &str, longest: usize, markup: Markup) -> String {
    let mut fitted = String::with_capacity(text.len());
    // The length up to which there is still room for the mark, and where that was.
    let (mut units, mut cut_at) = (0, 0);
    for character in text.trim().chars() {
        let mut plain = [0; 4];
        let piece = match (markup, character) {
            (Markup::Html, '<') => "&lt;",
            (Markup::Html, '>') => "&gt;",
            (Markup::Html, '&') => "&amp;",
            (Markup::Html, '"') => "&quot;",
            (_, control) if is_control(control) && control != '\n' => " ",
            _ => character.encode_utf8(&mut plain),
        };
        units += piece.encode_utf16().count();
        if units > longest {
            fitted.truncate(cut_at);
            fitted.push('…');
            break;
        }
        fitted.push_str(piece);
        if units < longest {
            cut_at = fitted.len();
        }
    }
    fitted
}

fn sign(kind: Option<&str>) -> &'static str {
    match kind {
        Some("high") => "📈",
        Some("low") => "📉",
        Some("recovered") => "✅",
        _ => "✈️",
    }
}

fn metric_in_words(metric: &str) -> String {
    match metric {
        "flights" => "arrivals and departures of one day".to_owned(),
        "arrivals" => "arrivals of one day".to_owned(),
        "departures" => "departures of one day".to_owned(),
        "live" => "aircraft within 25 nautical miles".to_owned(),
        newer => one_line(newer),
    }
}

/// A span of time in UTC, as short as it can be said.
fn window(begin: DateTime<Utc>, end: DateTime<Utc>) -> String {
    let day = |time: DateTime<Utc>| time.format("%-d %B %Y").to_string();
    let is_whole_day = begin.format("%H:%M:%S").to_string() == "00:00:00"
        && (end - begin == TimeDelta::seconds(86_399) || end - begin == TimeDelta::days(1));
    if is_whole_day {
        return format!("{} (UTC)", day(begin));
    }
    if begin == end {
        return moment(end);
    }
    let same_day = (begin.year(), begin.ordinal()) == (end.year(), end.ordinal());
    if same_day {
        return format!("{}, {} to {} UTC", day(begin), begin.format("%H:%M:%S"), end.format("%H:%M:%S"));
    }
    format!("{} to {}", moment(begin), moment(end))
}

fn moment(time: DateTime<Utc>) -> String {
    time.format("%-d %B %Y, %H:%M:%S UTC").to_string()
}

/// How old something is, in words; what is not yet (clocks differ) is new.
fn age(age: TimeDelta) -> String {
    let several = |count: i64, unit: &str| format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" });
    match age.num_seconds() {
        ..5 => "just now".to_owned(),
        seconds @ 5..90 => several(seconds, "second"),
        seconds @ 90..5400 => several((seconds + 30) / 60, "minute"),
        seconds @ 5400..172_800 => several((seconds + 1800) / 3600, "hour"),
        seconds => several((seconds + 43_200) / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().expect("a time")
    }

    fn alert() -> Alert {
        Alert {
            airport_code: "LFPG".into(),
            condition: "Not shown, since kind and numbers are known.".into(),
            kind: Some("high".into()),
            flight_count: Some(FlightCount::new(10)),
            threshold: Some(FlightCount::new(2)),
            metric: Some("flights".into()),
            reading: Some(Reading {
                window_begin: at("2026-11-20T00:00:00Z"),
                window_end: at("2026-11-20T23:59:59Z"),
                observed_at: at("2026-11-21T09:30:00Z"),
                source: "OpenSky Network".into(),
            }),
        }
    }

    /// An alert of a kind that is not known, so that its condition is shown.
    fn newer(condition: &str) -> Alert {
        Alert { condition: condition.into(), kind: Some("surge".into()), ..alert() }
    }

    /// The second line, which says what happened.
    fn told(alert: &Alert) -> String {
        let text = compose(alert, None, None, at("2026-11-21T09:32:00Z"), Markup::None);
        text.lines().nth(1).expect("a sentence").to_owned()
    }

    fn units(text: &str) -> usize {
        text.encode_utf16().count()
    }

    #[test]
    fn a_message_names_airport_condition_window_source_and_age() {
        let text =
            compose(&alert(), Some("Paris Charles de Gaulle Airport"), None, at("2026-11-21T09:32:00Z"), Markup::Html);
        let expected = "📈 <b>Paris Charles de Gaulle Airport (LFPG)</b>\n\
            The number of flights (10) exceeded the high threshold of 2.\n\
            Counted: arrivals and departures of one day\n\
            Window: 20 November 2026 (UTC)\n\
            Source: OpenSky Network\n\
            Observed: 21 November 2026, 09:30:00 UTC, 2 minutes ago";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_happened_is_said_of_kind_and_numbers() {
        let of = |kind: &str, threshold| Alert { kind: Some(kind.into()), threshold, ..alert() };
        let threshold = Some(FlightCount::new(20));
        for (alert, sentence) in [
            (of("high", threshold), "The number of flights (10) exceeded the high threshold of 20."),
            (of("low", threshold), "The number of flights (10) is below the low threshold of 20."),
            (of("recovered", None), "The number of flights (10) is back within the thresholds."),
        ] {
            assert_eq!(told(&alert), sentence);
        }
    }

    #[test]
    fn an_unknown_kind_or_one_without_its_numbers_is_said_as_it_was_sent() {
        let sent = "Something happened.";
        let known = |kind: &str| Alert { kind: Some(kind.into()), ..newer(sent) };
        for alert in [
            newer(sent),
            Alert { kind: None, ..newer(sent) },
            Alert { flight_count: None, ..known("high") },
            Alert { threshold: None, ..known("high") },
            Alert { threshold: None, ..known("low") },
            Alert { flight_count: None, ..known("recovered") },
        ] {
            assert_eq!(told(&alert), sent, "{alert:?}");
        }
    }

    #[test]
    fn a_row_of_the_version_before_says_what_it_said() {
        let row = r#"{"airport_code": "LFPG", "condition": "The number of flights (10) exceeded the high threshold of 2.",
            "kind": "high", "metric": "flights", "reading": {"window_begin": "2026-11-20T00:00:00Z",
            "window_end": "2026-11-20T23:59:59Z", "observed_at": "2026-11-21T09:30:00Z", "source": "OpenSky Network"}}"#;
        let before: Alert = serde_json::from_str(row).expect("a row");
        assert_eq!((before.flight_count, before.threshold), (None, None));
        for markup in [Markup::Html, Markup::None] {
            let text = |alert| compose(alert, Some("Paris"), None, at("2026-11-21T09:32:00Z"), markup);
            assert_eq!(text(&before), text(&alert()));
        }
    }

    #[test]
    fn the_version_before_reads_a_row_of_this_one() {
        /// What it needed.
        #[derive(Deserialize)]
        struct Before {
            airport_code: String,
            condition: String,
            kind: Option<String>,
            metric: Option<String>,
            reading: Option<Reading>,
        }
        let row = serde_json::to_string(&alert()).expect("a row");
        let before: Before = serde_json::from_str(&row).expect("an alert");
        assert_eq!((before.airport_code, before.condition), (alert().airport_code, alert().condition));
        assert_eq!((before.kind, before.metric, before.reading), (alert().kind, alert().metric, alert().reading));
    }

    #[test]
    fn the_ledger_keeps_numbers() {
        let row = serde_json::to_value(alert()).expect("a row");
        assert_eq!((&row["kind"], &row["flight_count"], &row["threshold"]), (&"high".into(), &10.into(), &2.into()));
        assert_eq!(serde_json::from_value::<Alert>(row).expect("an alert"), alert());
    }

    #[test]
    fn what_was_missed_before_is_told_in_a_line_of_its_own() {
        let recovered = Alert {
            kind: Some("recovered".into()),
            flight_count: Some(FlightCount::new(2)),
            threshold: None,
            ..alert()
        };
        let sent = newer("The number of flights (10) exceeded <the> high threshold of 2.\nSource: me");
        for (missed, line) in [
            (sent, "The number of flights (10) exceeded &lt;the&gt; high threshold of 2. Source: me"),
            (alert(), "The number of flights (10) exceeded the high threshold of 2."),
        ] {
            let text = compose(&recovered, None, Some(&missed), at("2026-11-21T09:32:00Z"), Markup::Html);
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines[1], "The number of flights (2) is back within the thresholds.");
            assert_eq!(lines[2], format!("Not delivered before: {line}"));
        }
    }

    #[test]
    fn plain_text_says_the_same_without_markup() {
        let text = compose(&alert(), Some("A & B"), None, at("2026-11-21T09:32:00Z"), Markup::None);
        assert!(text.starts_with("📈 A & B (LFPG)\nThe number"), "{text}");
    }

    #[test]
    fn the_oldest_kind_says_what_is_known_and_nothing_else() {
        let bare = Alert {
            airport_code: "LFPG".into(),
            condition: "The number of flights (10) exceeded the high threshold of 2.".into(),
            kind: None,
            flight_count: None,
            threshold: None,
            metric: None,
            reading: None,
        };
        let text = compose(&bare, None, None, Utc::now(), Markup::Html);
        assert_eq!(text, "✈️ <b>LFPG</b>\nThe number of flights (10) exceeded the high threshold of 2.");
    }

    #[test]
    fn what_comes_from_outside_cannot_be_markup_or_pass_for_another_line() {
        let hostile = Alert {
            airport_code: "</b><a href=\"tg://x\">\nSource: me".into(),
            ..newer("<script>&amp;\u{0}\u{7}</script>")
        };
        let text = compose(&hostile, Some("<i>\r\nWindow: never"), None, at("2026-11-21T09:30:00Z"), Markup::Html);
        assert!(
            text.starts_with(
                "✈️ <b>&lt;i&gt;  Window: never (&lt;/b&gt;&lt;a href=&quot;tg://x&quot;&gt; Source: me)</b>\n"
            ),
            "{text}"
        );
        assert!(text.contains("&lt;script&gt;&amp;amp;  &lt;/script&gt;"), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }

    #[test]
    fn the_longest_fields_together_stay_within_the_limit() {
        for filler in ["x", "&", "<", "😀", "\n", "\"", "é"] {
            let long = filler.repeat(9000);
            let mut hostile = Alert {
                airport_code: long.clone(),
                condition: long.clone(),
                kind: Some(long.clone()),
                metric: Some(long.clone()),
                ..alert()
            };
            if let Some(reading) = &mut hostile.reading {
                reading.source = long.clone();
                reading.window_end = at("2026-12-30T23:59:58Z");
            }
            for markup in [Markup::Html, Markup::None] {
                let text = compose(&hostile, Some(&long), Some(&hostile), at("2099-11-21T09:30:00Z"), markup);
                assert!(units(&text) <= LONGEST, "{filler:?} {}", units(&text));
            }
        }
    }

    #[test]
    fn nothing_is_cut_inside_an_entity_or_a_character() {
        for longest in 1..40 {
            let text = fit("a&b<c>😀\"&&&&&", longest, Markup::Html);
            assert!(units(&text) <= longest, "{text}");
            let without_entities =
                ["&lt;", "&gt;", "&amp;", "&quot;"].iter().fold(text.clone(), |t, e| t.replace(e, ""));
            assert!(!without_entities.contains(['&', '<', ';']), "{text}");
        }
        assert_eq!(fit("abc", 3, Markup::Html), "abc");
        assert_eq!(fit("abcd", 3, Markup::Html), "ab…");
        assert_eq!(fit("😀😀", 3, Markup::None), "😀…");
    }

    #[test]
    fn a_metric_of_a_newer_version_goes_by_its_name() {
        assert_eq!(metric_in_words("cargo\nx"), "cargo x");
        assert_eq!(metric_in_words("live"), "aircraft within 25 nautical miles");
    }

    #[test]
    fn a_window_is_said_as_short_as_it_can_be() {
        for (begin, end, words) in [
            ("2026-11-20T00:00:00Z", "2026-11-20T23:59:59Z", "20 November 2026 (UTC)"),
            ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", "20 November 2026 (UTC)"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z", "20 November 2026, 10:00:00 to 10:01:00 UTC"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z", "20 November 2026, 10:00:00 UTC"),
            (
                "2026-11-19T10:00:00Z",
                "2026-11-20T10:00:00Z",
                "19 November 2026, 10:00:00 UTC to 20 November 2026, 10:00:00 UTC",
            ),
        ] {
            assert_eq!(window(at(begin), at(end)), words);
        }
    }

    #[test]
    fn an_age_is_told_in_one_unit() {
        for (seconds, words) in [
            (-600, "just now"),
            (4, "just now"),
            (5, "5 seconds ago"),
            (89, "89 seconds ago"),
            (90, "2 minutes ago"),
            (5399, "90 minutes ago"),
            (5400, "2 hours ago"),
            (86_400, "24 hours ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(age(TimeDelta::seconds(seconds)), words);
        }
    }
}
