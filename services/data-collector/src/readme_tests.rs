//! The tests that README.md names are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The last column of each row of the tables whose last column names tests.
fn tests_of_rows() -> Vec<&'static str> {
    let tables = include_str!("../README.md").split("\n\n").filter(|part| {
        part.lines().next().is_some_and(|header| header.starts_with("| ") && header.ends_with("| tests |"))
    });
    let rows = tables.flat_map(|table| table.lines().skip(2));
    rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next()).collect()
}

/// The tests that they name.
fn named() -> BTreeSet<&'static str> {
    tests_of_rows().into_iter().flat_map(|column| column.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_test_that_the_readme_names_is_there_and_every_row_names_one() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&crate_folder.join("src"), &mut files);
    sources(&crate_folder.join("tests"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("a file")).collect();
    let is_there = |name: &str| {
        code.split(&format!("fn {name}()")).next().is_some_and(|before| {
            before.len() < code.len() && before.trim_end().trim_end_matches("async").trim_end().ends_with(']')
        })
    };
    let missing: Vec<_> = named().into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "named in README.md, but no tests: {missing:?}");
    let rows = tests_of_rows();
    assert!(rows.len() > 20, "only {} rows were found: the test looks in the wrong place", rows.len());
    for tests in rows {
        assert!(tests.contains('`'), "a row names no test but {tests:?}");
    }
}
