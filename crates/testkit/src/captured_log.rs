//! What the code under test logs.

use std::{
    any::Any,
    io,
    sync::{Arc, Mutex},
};

pub use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// What is logged on this thread from now on, until this is dropped. It holds all that tasks log
/// in a test whose runtime has one thread.
pub struct CapturedLog {
    text: Written,
    _subscriber: Box<dyn Any>,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    /// Begins to capture, at `info` and above.
    #[must_use]
    pub fn begin() -> Self {
        Self::begin_at(LevelFilter::INFO)
    }

    /// Begins to capture, at `level` and above.
    #[must_use]
    pub fn begin_at(level: LevelFilter) -> Self {
        // With one subscriber, tracing asks that of the thread which comes to a line first whether the line is of
        // interest, and remembers the answer for all threads: one without any would silence it here too.
        drop(tracing_subscriber::registry().with(LevelFilter::INFO).try_init());
        let text = Written::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _subscriber: Box::new(subscriber.set_default()) }
    }

    /// The lines so far that contain all of these words.
    #[must_use]
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.text.0.lock().expect("no panic")).into_owned();
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has_all).map(str::to_owned).collect()
    }
}
