#![doc = include_str!("../README.md")]

mod code;
mod table;

pub use code::{IcaoCode, InvalidIcaoCode};

/// An airport, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Airport {
    /// Its ICAO code.
    pub icao: IcaoCode,
    /// Its IATA code, where it has one.
    pub iata: Option<&'static str>,
    /// Its name, in any script's letters.
    pub name: &'static str,
    /// The city it serves; empty where the table names none.
    pub city: &'static str,
    /// The country, as the two letters of ISO 3166.
    pub country: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// The airport that a person means by `code`: an ICAO code, or an IATA code that stands for one
/// airport only; in any case, with or without space around it.
#[must_use]
pub fn lookup(code: &str) -> Option<Airport> {
    let code = code.trim();
    match code.len() {
        3 => by_icao(table::icao_of_iata(code)?),
        4 => by_icao(code.parse().ok()?),
        _ => None,
    }
}

/// The airport with this ICAO code.
#[must_use]
pub fn by_icao(code: IcaoCode) -> Option<Airport> {
    table::find(code)
}

/// Every airport, in the order of the ICAO codes.
pub fn all() -> impl Iterator<Item = Airport> {
    table::all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn icao(code: &str) -> Option<String> {
        lookup(code).map(|airport| airport.icao.to_string())
    }

    #[test]
    fn an_airport_is_found_by_either_code_in_any_case() {
        for code in ["LFPG", "lfpg", " Lfpg\n", "CDG", "cdg", "\tCdG "] {
            assert_eq!(icao(code).as_deref(), Some("LFPG"), "{code:?}");
        }
        let paris = lookup("LFPG").expect("Paris");
        assert_eq!(
            (paris.iata, paris.name, paris.city, paris.country),
            (Some("CDG"), "Charles de Gaulle International Airport", "Paris", "FR")
        );
        assert!((paris.latitude - 49.0128).abs() < 1e-9 && (paris.longitude - 2.55).abs() < 1e-9);
    }

    #[test]
    fn names_keep_the_letters_of_their_language() {
        let warsaw = lookup("EPNL").expect("Nowy Sącz");
        assert_eq!((warsaw.name, warsaw.iata), ("Nowy Sącz-Łososina Dolna Airport", None));
    }

    #[test]
    fn what_is_no_airport_is_not_found() {
        for code in ["", " ", "L", "LF", "LFPGX", "XXXX", "1234", "QQQ", "LF G", "LFÉ", "éé", "日本", "L\0PG", "QQ\n"]
        {
            assert_eq!(icao(code), None, "{code:?}");
        }
    }

    #[test]
    fn the_table_is_whole_and_in_order() {
        let airports: Vec<_> = all().collect();
        assert_eq!(airports.len(), 17_090);
        assert!(airports.windows(2).all(|pair| pair[0].icao < pair[1].icao));
        for airport in &airports {
            assert_eq!(by_icao(airport.icao).as_ref(), Some(airport));
            assert!(airport.latitude.abs() <= 90.0 && airport.longitude.abs() <= 180.0, "{airport:?}");
            assert!(!airport.name.is_empty() && airport.name == airport.name.trim(), "{airport:?}");
            assert_eq!(airport.country.len(), 2, "{airport:?}");
            assert!(airport.icao.as_str().bytes().all(|byte| byte.is_ascii_uppercase()), "{airport:?}");
        }
    }

    #[test]
    fn every_iata_code_leads_to_its_airport() {
        let with_code: Vec<_> = all().filter(|airport| airport.iata.is_some()).collect();
        assert_eq!(with_code.len(), 7_637, "every code belongs to one airport in this edition of the table");
        for airport in with_code {
            assert_eq!(airport.iata.and_then(lookup), Some(airport));
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(code in "\\PC{0,6}") {
            if let Some(airport) = lookup(&code) {
                let meant = code.trim().to_uppercase();
                prop_assert!(meant == airport.icao.as_str() || Some(meant.as_str()) == airport.iata);
            }
        }

        #[test]
        fn codes_that_are_not_in_the_table_are_not_found(code in "[A-Z]{4}") {
            let code: IcaoCode = code.parse().expect("four letters");
            prop_assert_eq!(by_icao(code).is_some(), all().any(|airport| airport.icao == code));
        }

        #[test]
        fn case_and_space_make_no_difference(place in 0_usize..17_090, case in 0_u8..16, before in " {0,2}", after in "[ \t]{0,2}") {
            let airport = all().nth(place).expect("an airport");
            let code: String = airport.icao.as_str().chars().enumerate()
                .map(|(at, letter)| if case >> at & 1 == 0 { letter } else { letter.to_ascii_lowercase() })
                .collect();
            prop_assert_eq!(lookup(&format!("{before}{code}{after}")), Some(airport));
        }
    }
}
