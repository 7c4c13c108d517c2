use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde::Serializer;

/// The longest of those below.
const LONGEST: usize = "9999-12-31T23:59:59.999999999Z".len();

/// Writes a time as chrono's own implementation does, RFC 3339 in UTC, but digit by digit: chrono's formatting was a
/// fifth of the work of a page of readings, and still a twentieth when it was asked for the whole text. For
/// `#[serde(serialize_with)]`.
///
/// # Errors
/// The serializer's own.
pub fn timestamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [0; LONGEST];
    match write(time, &mut text).map(|length| std::str::from_utf8(&text[..length])) {
        Some(Ok(text)) => serializer.serialize_str(text),
        _ => serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    }
}

/// Writes the time, and answers how long it is; `None` for a year of other than four digits, and for a leap second.
fn write(time: &DateTime<Utc>, text: &mut [u8; LONGEST]) -> Option<usize> {
    let year = u32::try_from(time.year()).ok().filter(|year| *year < 10_000)?;
    let nanos = Some(time.nanosecond()).filter(|nanos| *nanos < 1_000_000_000)?;
    let mut length = 0;
    let mut part = |digits: usize, mut value: u32, end: u8| {
        for place in (length..length + digits).rev() {
            text[place] = b"0123456789"[(value % 10) as usize];
            value /= 10;
        }
        text[length + digits] = end;
        length += digits + 1;
    };
    part(4, year, b'-');
    part(2, time.month(), b'-');
    part(2, time.day(), b'T');
    part(2, time.hour(), b':');
    part(2, time.minute(), b':');
    part(2, time.second(), if nanos == 0 { b'Z' } else { b'.' });
    match nanos {
        0 => {}
        _ if nanos.is_multiple_of(1_000_000) => part(3, nanos / 1_000_000, b'Z'),
        _ if nanos.is_multiple_of(1_000) => part(6, nanos / 1_000, b'Z'),
        _ => part(9, nanos, b'Z'),
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, Utc};
    use proptest::prelude::*;
    use serde::Serialize;

    #[derive(Serialize)]
    struct Body(#[serde(serialize_with = "super::timestamp")] DateTime<Utc>);

    fn is_written_as_chrono_writes_it(time: DateTime<Utc>) {
        let written = serde_json::to_string(&Body(time)).expect("JSON");
        assert_eq!(written, serde_json::to_string(&time).expect("JSON"));
    }

    #[test]
    fn a_time_is_written_as_chrono_writes_it() {
        for micros in [0, 1, 1_500_000, 1_600_000_000_000_000, 1_600_000_000_123_000, 1_600_000_000_123_456] {
            is_written_as_chrono_writes_it(DateTime::from_timestamp_micros(micros).expect("a time"));
        }
        let leap_second = NaiveDate::from_ymd_opt(2016, 12, 31).expect("a day").and_hms_milli_opt(23, 59, 59, 1_500);
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, leap_second.expect("a time").and_utc()] {
            is_written_as_chrono_writes_it(time);
        }
    }

    proptest! {
        #[test]
        fn every_time_is_written_as_chrono_writes_it(
            seconds in -70_000_000_000_i64..300_000_000_000,
            nanos in prop_oneof![Just(0), 0..1_000_000_000_u32, (0..1_000_u32).prop_map(|millis| millis * 1_000_000)],
        ) {
            is_written_as_chrono_writes_it(DateTime::from_timestamp(seconds, nanos).expect("a time"));
        }
    }
}
