//! The metrics that an expression of Prometheus names. Its own parser answers that (`/api/v1/parse_query`) only from
//! version 3 on.

use std::collections::BTreeSet;

/// What may stand before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that are no metrics where no parenthesis follows them: operators, and aggregations, after which the list of
/// labels may come first.
const WORDS: [&str; 24] = [
    "and",
    "or",
    "unless",
    "atan2",
    "offset",
    "bool",
    "inf",
    "nan",
    "start",
    "end",
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "stddev",
    "stdvar",
    "count",
    "count_values",
    "bottomk",
    "topk",
    "quantile",
    "limitk",
    "limit_ratio",
];

/// The metrics that `expr` names.
pub fn metrics(expr: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_string(rest),
            '#' => rest.split_once('\n').map_or("", |(_, rest)| rest),
            '{' => {
                let after = after_bracketed(rest);
                assert!(!rest[..rest.len() - after.len()].contains("__name__"), "a metric is named by a label: {expr}");
                after
            }
            '[' => after_bracketed(rest),
            // A number or a duration.
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            _ if is_in_name(first) => {
                let after = rest.trim_start_matches(is_in_name);
                let (name, next) = (&rest[..rest.len() - after.len()], after.trim_start());
                let is_call = next.starts_with('(');
                if !is_call && !BEFORE_LABELS.contains(&name) && !WORDS.contains(&name) {
                    found.insert(name);
                }
                if is_call && BEFORE_LABELS.contains(&name) { after_bracketed(next) } else { after }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    found
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What comes after the string at the beginning of `text`.
fn after_string(text: &str) -> &str {
    let quote = text.chars().next();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote != Some('`') => drop(chars.next()),
            _ if Some(c) == quote => return &text[at + c.len_utf8()..],
            _ => {}
        }
    }
    panic!("a string does not end: {text}")
}

/// What comes after the bracket at the beginning of `text` is closed. Labels and ranges hold no brackets outside of
/// strings.
fn after_bracketed(text: &str) -> &str {
    let mut rest = &text[1..];
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_string(rest),
            '}' | ']' | ')' => return &rest[1..],
            _ => &rest[first.len_utf8()..],
        };
    }
    panic!("a bracket is not closed: {text}")
}

#[test]
fn metrics_are_told_from_functions_labels_strings_ranges_and_numbers() {
    for (expr, expected) in [
        ("up", vec!["up"]),
        ("sum by (service, le) (rate(a_bucket{x=\"} b\", y=~'c'}[5m])) / 14.4e3", vec!["a_bucket"]),
        ("sum(a) by (b) > bool 0 or vector(1) unless on (pod) c offset 1h", vec!["a", "c"]),
        ("a * on (b) group_left (c) d and ignoring(e) f", vec!["a", "d", "f"]),
        ("flightbell:late:ratio1h > 0.1 # and g\n or h == inf", vec!["flightbell:late:ratio1h", "h"]),
        ("max_over_time(deriv(a[1m:10s])[5m:]) - time() % 86400", vec!["a"]),
        ("count by (x) (a{b=\"\\\"}\"} == 0) + topk(10, c{d=`\\`})", vec!["a", "c"]),
        ("label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")", vec!["a"]),
    ] {
        assert_eq!(metrics(expr), BTreeSet::from_iter(expected), "{expr}");
    }
}
