//! Search in the sorted text.

use std::cmp::Ordering;

use crate::{Airport, IcaoCode};

/// A line an airport: icao, iata, latitude, longitude, country, name, city, with tabs in between,
/// sorted by the first.
const AIRPORTS: &str = include_str!("../data/airports.tsv");

/// Lines of equal length, sorted: an IATA code and the ICAO code it stands for.
const IATA: &str = include_str!("../data/iata.txt");

const IATA_LINE: usize = "CDGLFPG\n".len();

/// The airport with this code.
pub(crate) fn find(code: IcaoCode) -> Option<Airport> {
    let text = AIRPORTS.as_bytes();
    // Both always lie at the start of a line, or at the end of the text.
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = text[low..middle].iter().rposition(|&byte| byte == b'\n').map_or(low, |at| low + at + 1);
        let end = text[middle..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| middle + at);
        match text[start..end].get(..4)?.cmp(&code.bytes()) {
            Ordering::Less => low = end + 1,
            Ordering::Greater => high = start,
            Ordering::Equal => return read(AIRPORTS.get(start..end)?),
        }
    }
    None
}

/// The ICAO code that an IATA code in any case stands for.
pub(crate) fn icao_of_iata(code: &str) -> Option<IcaoCode> {
    let code = code.to_ascii_uppercase();
    let (lines, _) = IATA.as_bytes().as_chunks::<IATA_LINE>();
    let at = lines.binary_search_by(|line| line[..3].cmp(code.as_bytes())).ok()?;
    IcaoCode::from_bytes(&lines[at][3..7]).ok()
}

pub(crate) fn all() -> impl Iterator<Item = Airport> {
    AIRPORTS.lines().filter_map(read)
}

fn read(line: &'static str) -> Option<Airport> {
    let mut values = line.split('\t');
    let icao = IcaoCode::from_bytes(values.next()?.as_bytes()).ok()?;
    let iata = values.next().filter(|iata| !iata.is_empty());
    Some(Airport {
        icao,
        iata,
        latitude: values.next()?.parse().ok()?,
        longitude: values.next()?.parse().ok()?,
        country: values.next()?,
        name: values.next()?,
        city: values.next()?,
    })
}
