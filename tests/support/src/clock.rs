//! A clock for the operator's process that tests can change.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use jiff::Timestamp;
use tempfile::NamedTempFile;

/// The clock of every process that is started with [`Clock::env`]; see `tests/clock`.
pub struct Clock {
    file: NamedTempFile,
    library: PathBuf,
}

impl Clock {
    /// A clock that runs this many times faster than real time.
    pub fn accelerated(speed: i64) -> Self {
        let since = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), [0, speed, since, 0].map(i64::to_ne_bytes).concat()).unwrap();
        // beside the test: cargo has built it for it
        let library = std::env::current_exe().unwrap().with_file_name("libclock.so");
        assert!(library.exists(), "{}", library.display());
        Self { file, library }
    }

    /// A clock that shows real time.
    pub fn real_time() -> Self {
        Self::accelerated(1)
    }

    /// Puts the wall clock this many seconds ahead of real time.
    pub fn set_ahead(&self, seconds: i64) {
        self.file.as_file().write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// Stops the main thread, for good.
    pub fn stop_main_thread(&self) {
        self.file.as_file().write_all_at(&1_i64.to_ne_bytes(), 24).unwrap();
    }

    /// The environment of a process that is to use this clock.
    pub fn env(&self) -> [(&'static str, &str); 2] {
        [("LD_PRELOAD", self.library.to_str().unwrap()), ("CLOCK_FILE", self.file.path().to_str().unwrap())]
    }
}
