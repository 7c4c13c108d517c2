//! Where the data directory is.

use std::path::PathBuf;

use runtime::config::{ConfigError, Reader, Vars};

/// The data directory: the one named, or `$XDG_DATA_HOME/flightbell`, or `~/.local/share/flightbell`.
///
/// # Errors
/// When none is named and there is no home to put one in.
pub fn data_dir(named: Option<PathBuf>, vars: &dyn Vars) -> Result<PathBuf, ConfigError> {
    let mut reader = Reader::new(vars);
    let folder = named.or_else(|| reader.raw("XDG_DATA_HOME").map(|folder| PathBuf::from(folder).join("flightbell")));
    let folder = folder.or_else(|| reader.raw("HOME").map(|home| PathBuf::from(home).join(".local/share/flightbell")));
    found(reader, folder, "neither --data-dir, XDG_DATA_HOME nor HOME says where the data goes")
}

/// The folder for what may be fetched again: `$XDG_CACHE_HOME`, or `~/.cache`.
///
/// # Errors
/// When there is no home to put one in.
pub fn cache_home(vars: &dyn Vars) -> Result<PathBuf, ConfigError> {
    let mut reader = Reader::new(vars);
    let folder = reader.raw("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| reader.raw("HOME").map(|home| PathBuf::from(home).join(".cache")));
    found(reader, folder, "neither XDG_CACHE_HOME nor HOME says where Kafka's jars are")
}

fn found(mut reader: Reader<'_>, folder: Option<PathBuf>, without: &str) -> Result<PathBuf, ConfigError> {
    if folder.is_none() {
        reader.problem(without);
    }
    reader.finish(|| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_folder_comes_first_then_xdg_then_home() {
        let vars = [("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(data_dir(Some("/n".into()), &vars).expect("named"), PathBuf::from("/n"));
        assert_eq!(data_dir(None, &vars).expect("xdg"), PathBuf::from("/x/flightbell"));
        assert_eq!(data_dir(None, &[("HOME", "/h")]).expect("home"), PathBuf::from("/h/.local/share/flightbell"));
        assert!(data_dir(None, &[("HOME", "")]).is_err());
    }

    #[test]
    fn a_name_that_is_no_text_is_not_passed_over() {
        struct Garbled;
        impl Vars for Garbled {
            fn get(&self, key: &str) -> Option<String> {
                (key == "HOME").then(|| "/h".to_owned())
            }
            fn is_garbled(&self, key: &str) -> bool {
                key == "XDG_DATA_HOME"
            }
        }
        let told = data_dir(None, &Garbled).expect_err("a problem");
        assert_eq!(told.problems(), ["XDG_DATA_HOME cannot be used: its value is not UTF-8 text"]);
    }
}
