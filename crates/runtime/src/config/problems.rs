//! What is wrong with the settings.

use std::fmt;

use super::Settings;

/// Everything that is wrong with the settings, one line a problem.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<String>,
    settings: Settings,
}

impl ConfigError {
    pub(super) fn all(problems: Vec<String>, settings: Settings) -> Self {
        Self { problems, settings }
    }

    /// One problem.
    #[must_use]
    pub fn of(problem: impl Into<String>) -> Self {
        Self::all(vec![problem.into()], Settings::default())
    }

    /// All the problems of several configurations, each told once; `None` when there are none.
    #[must_use]
    pub fn joined(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (mut problems, mut settings) = (Vec::<String>::new(), Settings::default());
        for error in errors {
            for problem in error.problems {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
            settings.extend([error.settings]);
        }
        (!problems.is_empty()).then_some(Self::all(problems, settings))
    }

    /// The problems, each naming its key and the mend.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The settings that were read, as they may be shown.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{count} setting{} cannot be used:", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}
