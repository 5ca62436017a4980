//! The one error type of the extension, and the one place where core errors become SQLSTATEs.

use std::borrow::Cow;

use pgpci_core::error::Error as CoreError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What a function of the extension returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error as PostgreSQL reports it. Never holds a card number, password or key.
#[derive(Debug)]
pub struct Error {
    sqlstate: PgSqlErrorCode,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    is_about_input: bool,
}

impl Error {
    /// A new error with one sentence as its message.
    pub fn new(sqlstate: PgSqlErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { sqlstate, message: message.into(), hint: None, is_about_input: false }
    }

    /// 42501: nobody allowed it.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
    }

    /// 22023: an argument that means nothing here.
    pub fn argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// 55000: pgpci is not in the state that the call needs.
    pub fn state(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// 58000: a key cannot be had now; the message says why.
    pub fn key(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, message)
    }

    /// Adds the sentence that tells what to do.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Raises it: control does not come back.
    pub fn raise(self) -> ! {
        // COPY, Bind and procedural languages would add the values and statements they were working on.
        crate::pg::report::hide_input_in_context();
        self.into_report().report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return")
    }

    /// Hands it to the caller of an input function that asked for that instead of an abort (`context` is the call's),
    /// if it is about the value; a refusal, or a key that is missing, is not. True if it did.
    pub fn save(&self, context: *mut pgrx::pg_sys::Node) -> bool {
        self.is_about_input
            && crate::pg::report::save(context, self.sqlstate, &self.message, self.hint.as_deref())
    }

    /// Reports it as a WARNING and goes on.
    pub fn warn(self) {
        self.into_report().report(PgLogLevel::WARNING);
    }

    fn into_report(self) -> ErrorReport {
        let report = ErrorReport::new(self.sqlstate, self.message.into_owned(), "pgpci");
        match self.hint {
            Some(hint) => report.set_hint(hint.into_owned()),
            None => report,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        use PgSqlErrorCode as S;
        let sqlstate = match error {
            CoreError::Corrupt => S::ERRCODE_DATA_CORRUPTED,
            CoreError::SealedVersion | CoreError::Comparand => S::ERRCODE_INVALID_PARAMETER_VALUE,
            _ => S::ERRCODE_INVALID_TEXT_REPRESENTATION,
        };
        let mut new = Self::new(sqlstate, error.to_string());
        new.is_about_input = error != CoreError::Corrupt;
        match error.hint() {
            Some(hint) => new.hint(hint),
            None => new,
        }
    }
}

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("internal query failed: {error}"))
    }
}
