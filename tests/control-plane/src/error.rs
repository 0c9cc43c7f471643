//! The one error type: a message that a person can act on.

use std::fmt::{self, Debug, Display, Formatter};

/// Why the control plane could not be got, started or asked.
pub struct Error {
    message: String,
    /// Somebody else took the port between choosing and binding it: another one may work.
    pub(crate) port_taken: bool,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), port_taken: false }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message as it is: `unwrap` in a test prints this, and escaped line ends are unreadable.
impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when an error came up.
pub(crate) trait Context<T> {
    fn context(self, what: impl Display) -> Result<T, Error>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Error> {
        self.map_err(|error| Error::new(format!("{what}: {error}")))
    }
}
