//! Telegram's HTML: what is shown, which parts are marked, and what it refuses.
//!
//! The rules and the wording of the refusals are those of Telegram's open-source library, so that a
//! text which passes here passes there.

use serde::Serialize;

/// A marked part of a message. Offsets and lengths are UTF-16 code units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// `bold`, `italic`, `code`, `text_link` and so on.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it begins.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
    /// Of a `text_link`, where it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A text as a person sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) entities: Vec<Entity>,
}

struct Open<'a> {
    tag: &'a str,
    kind: &'static str,
    offset: usize,
    url: Option<String>,
}

/// Reads a text in HTML.
///
/// # Errors
/// What Telegram says behind "can't parse entities: ".
pub(super) fn parse(source: &str) -> Result<Shown, String> {
    let mut shown = Shown::default();
    let mut units = 0;
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let at = source.len() - rest.len();
        match first {
            '<' => {
                let inside = &rest[1..];
                let (tag, after) =
                    split_tag(inside).ok_or_else(|| format!("Unclosed start tag at byte offset {at}"))?;
                if let Some(name) = tag.strip_prefix('/') {
                    let ended = end(&mut open, name.trim(), at)?;
                    let length = units - ended.offset;
                    if length > 0 {
                        shown.entities.push(Entity { kind: ended.kind, offset: ended.offset, length, url: ended.url });
                    }
                } else {
                    open.push(begin(tag, units, at)?);
                }
                rest = after;
            }
            '&' => {
                let (letter, after) = reference(rest).unwrap_or(('&', &rest[1..]));
                shown.text.push(letter);
                units += letter.len_utf16();
                rest = after;
            }
            letter => {
                shown.text.push(letter);
                units += letter.len_utf16();
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    if let Some(left) = open.last() {
        return Err(format!("Can't find end tag corresponding to start tag \"{}\"", left.tag));
    }
    // Of two marks around the same letters the outer one ended last, and comes first.
    shown.entities.reverse();
    shown.entities.sort_by_key(|entity| (entity.offset, std::cmp::Reverse(entity.length)));
    Ok(shown)
}

/// What stands in a tag, and what comes after it; a `>` within quotes does not end it.
fn split_tag(inside: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, letter) in inside.char_indices() {
        match (quote, letter) {
            (None, '>') => return Some((&inside[..at], &inside[at + 1..])),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

fn begin(tag: &str, offset: usize, at: usize) -> Result<Open<'_>, String> {
    let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let kind = match name.to_ascii_lowercase().as_str() {
        "b" | "strong" => "bold",
        "i" | "em" => "italic",
        "u" | "ins" => "underline",
        "s" | "strike" | "del" => "strikethrough",
        "tg-spoiler" => "spoiler",
        "span" if attribute(attributes, "class").as_deref() == Some("tg-spoiler") => "spoiler",
        "span" => return Err(format!("Tag \"span\" must have class \"tg-spoiler\" at byte offset {at}")),
        "a" => "text_link",
        "code" => "code",
        "pre" => "pre",
        "blockquote" => "blockquote",
        "tg-emoji" => "custom_emoji",
        other => return Err(format!("Unsupported start tag \"{other}\" at byte offset {at}")),
    };
    let url = if kind == "text_link" { attribute(attributes, "href") } else { None };
    Ok(Open { tag: name, kind, offset, url })
}

fn end<'a>(open: &mut Vec<Open<'a>>, name: &str, at: usize) -> Result<Open<'a>, String> {
    let last = open.pop().ok_or_else(|| format!("Unexpected end tag at byte offset {at}"))?;
    if !name.is_empty() && !name.eq_ignore_ascii_case(last.tag) {
        let expected = last.tag;
        return Err(format!("Unmatched end tag at byte offset {at}, expected \"</{expected}>\", found \"</{name}>\""));
    }
    Ok(last)
}

/// The value of an attribute, with its references read.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut rest = attributes.trim_start();
    while let Some((key, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, after) = match value.chars().next()? {
            quote @ ('"' | '\'') => value[1..].split_once(quote)?,
            _ => value.split_once(char::is_whitespace).unwrap_or((value, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(unescape(value));
        }
        rest = after.trim_start();
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (letter, after) = reference(rest).unwrap_or((first, &rest[first.len_utf8()..]));
        plain.push(letter);
        rest = after;
    }
    plain
}

/// Reads `&lt;`, `&gt;`, `&amp;`, `&quot;` and numbers, with or without the semicolon; all else is left
/// as it stands.
fn reference(text: &str) -> Option<(char, &str)> {
    let body = text.strip_prefix('&')?;
    let (letter, after) = if let Some(number) = body.strip_prefix('#') {
        let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16));
        let end = digits.find(|letter: char| !letter.is_digit(radix)).unwrap_or(digits.len());
        let code = u32::from_str_radix(&digits[..end], radix).ok().filter(|code| *code != 0)?;
        (char::from_u32(code)?, &digits[end..])
    } else {
        let end = body.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(body.len());
        let letter = match &body[..end] {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            _ => return None,
        };
        (letter, &body[end..])
    };
    Some((letter, after.strip_prefix(';').unwrap_or(after)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entity(kind: &'static str, offset: usize, length: usize) -> Entity {
        Entity { kind, offset, length, url: None }
    }

    #[test]
    fn marks_become_entities_in_utf16_units() {
        let shown = parse("✈️ <b>𝄞 &lt;LFPG&gt;</b> &amp; <i><code>x</code></i>").expect("good HTML");
        assert_eq!(shown.text, "✈️ 𝄞 <LFPG> & x");
        assert_eq!(shown.entities, [entity("bold", 3, 9), entity("italic", 15, 1), entity("code", 15, 1)]);
    }

    #[test]
    fn a_link_keeps_its_address() {
        let shown = parse(r#"<a class='x' href="https://a.example/?b=1&amp;c=>">here</a>"#).expect("good HTML");
        assert_eq!(shown.text, "here");
        assert_eq!(shown.entities[0].url.as_deref(), Some("https://a.example/?b=1&c=>"));
    }

    #[test]
    fn references_that_telegram_does_not_know_stay() {
        let check = |source: &str, expected: &str| assert_eq!(parse(source).expect("good HTML").text, expected);
        check("a & b &nbsp; &copy; &", "a & b &nbsp; &copy; &");
        check("&#65;&#x42;&lt;&amp;lt;", "AB<&lt;");
        check("&#0;&#xD800;&#;", "&#0;&#xD800;&#;");
        check("", "");
    }

    #[test]
    fn bad_marks_are_refused_in_telegrams_words() {
        let check = |source: &str, expected: &str| assert_eq!(parse(source).expect_err(source), expected);
        check("a < b", "Unclosed start tag at byte offset 2");
        check("é<p>", "Unsupported start tag \"p\" at byte offset 2");
        check("a <b> c", "Can't find end tag corresponding to start tag \"b\"");
        check("a</b>", "Unexpected end tag at byte offset 1");
        check("<b>a</i>", "Unmatched end tag at byte offset 4, expected \"</b>\", found \"</i>\"");
        check("<span>a</span>", "Tag \"span\" must have class \"tg-spoiler\" at byte offset 0");
        check("<>", "Unsupported start tag \"\" at byte offset 0");
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(source in "[<>/&;#xbi\"' =é𝄞a-c]{0,40}") {
            if let Ok(shown) = parse(&source) {
                let units = shown.text.encode_utf16().count();
                prop_assert!(shown.entities.iter().all(|entity| entity.offset + entity.length <= units));
            }
        }

        #[test]
        fn an_escaped_text_is_shown_as_it_was(text in "\\PC{0,40}") {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            prop_assert_eq!(parse(&escaped).expect("good HTML").text, text);
        }
    }
}
