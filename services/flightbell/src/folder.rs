//! Where the data directory is.

use std::path::PathBuf;

use shell::config::{ConfigError, Reader, Vars};

/// The data directory: the one named, or `$XDG_DATA_HOME/flightbell`, or `~/.local/share/flightbell`.
///
/// # Errors
/// When none is named and there is no home to put one in.
pub fn data_dir(named: Option<PathBuf>, vars: &dyn Vars) -> Result<PathBuf, ConfigError> {
    let reader = Reader::new(vars);
    let folder = named.or_else(|| reader.raw("XDG_DATA_HOME").map(|folder| PathBuf::from(folder).join("flightbell")));
    let folder = folder.or_else(|| reader.raw("HOME").map(|home| PathBuf::from(home).join(".local/share/flightbell")));
    folder.ok_or_else(|| ConfigError::of("neither --data-dir, XDG_DATA_HOME nor HOME says where the data goes"))
}

/// The folder for what may be fetched again: `$XDG_CACHE_HOME`, or `~/.cache`.
///
/// # Errors
/// When there is no home to put one in.
pub fn cache_home(vars: &dyn Vars) -> Result<PathBuf, ConfigError> {
    let reader = Reader::new(vars);
    let folder = reader.raw("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| reader.raw("HOME").map(|home| PathBuf::from(home).join(".cache")));
    folder.ok_or_else(|| ConfigError::of("neither XDG_CACHE_HOME nor HOME says where Kafka's jars are"))
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
}
