//! A server's log file, kept small.
//!
//! The server appends to the file itself, so that it goes on when we are killed. What has grown too
//! large is copied aside and cut; a line written in that moment may be lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, ErrorContext};

/// Beyond this a log is cut, in bytes; as much lies beside it as `….1`.
const LIMIT: u64 = 8 * 1024 * 1024;
/// How much of a log's end is told in an error.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 16 * 1024;

/// The log of one server.
#[derive(Clone, Debug)]
pub(crate) struct Log(PathBuf);

impl Log {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The file for a server to append to, and how long it is before.
    pub(crate) fn open(&self) -> Result<(File, u64), Error> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder).context(|| format!("create {}", folder.display()))?;
        }
        self.cut_if_large()?;
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.0);
        let file = opened.context(|| format!("open {}", self.0.display()))?;
        let length = file.metadata().context(|| format!("look at {}", self.0.display()))?.len();
        Ok((file, length))
    }

    /// Copies the log aside and empties it, once it is too large.
    pub(crate) fn cut_if_large(&self) -> Result<(), Error> {
        let length = fs::metadata(&self.0).map_or(0, |meta| meta.len());
        if length < LIMIT {
            return Ok(());
        }
        let aside = self.0.with_extension("log.1");
        fs::copy(&self.0, &aside).context(|| format!("copy {} aside", self.0.display()))?;
        let file = OpenOptions::new().write(true).open(&self.0).context(|| format!("open {}", self.0.display()))?;
        file.set_len(0).context(|| format!("cut {}", self.0.display()))
    }

    /// What was written from byte `from` on, at most its last [`TAIL_BYTES`].
    pub(crate) fn since(&self, from: u64) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.0)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(from.min(length).max(length.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read()
            .map_or_else(|error| format!("(unreadable: {error})"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        last_lines(&self.since(0))
    }
}

/// The last lines of a program's output, without the places in Java's code where it went wrong.
pub(crate) fn last_lines(text: &str) -> String {
    let is_telling = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("at ") && !line.starts_with("... ")
    };
    let lines: Vec<_> = text.lines().filter(is_telling).collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_grew_large_is_cut_and_the_server_goes_on_writing() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::at(folder.path().join("kafka.log"));
        let (mut file, length) = log.open().expect("a log");
        assert_eq!(length, 0);
        file.write_all(&vec![b'x'; usize::try_from(LIMIT).expect("small")]).expect("written");
        log.cut_if_large().expect("cut");
        writeln!(file, "and on").expect("written");
        assert_eq!(log.tail(), "and on");
        let trace = "ERROR broken\n\tat kafka.Kafka.main(Kafka.scala)\nCaused by: no room\n\t... 3 more\n";
        assert_eq!(last_lines(trace), "ERROR broken\nCaused by: no room");
        assert_eq!(fs::metadata(folder.path().join("kafka.log.1")).expect("aside").len(), LIMIT);
    }
}
