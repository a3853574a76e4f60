use crate::uri::without_users;
use std::fmt;

/// What went wrong, as a stable name that programs may match on.
///
/// The names ([`ErrorKind::as_str`]) are part of the public contract and are the same in Rust,
/// in Python (`SlafError.kind`) and on the command line.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A file, folder or store does not exist.
    NotFound,
    /// The target of a write exists already.
    AlreadyExists,
    /// The path holds something else than a SLAF store.
    NotAStore,
    /// The format of an input file is not recognised.
    UnknownFormat,
    /// The store needs a feature that this version does not have.
    UnsupportedFeature,
    /// The input uses an encoding that is recognised and not supported.
    UnsupportedInput,
    /// An input file breaks the rules of its own format.
    MalformedInput,
    /// A file of the store is damaged or missing.
    Corrupt,
    /// The input holds something that the store cannot hold.
    WouldLoseData,
    /// An argument is wrong.
    InvalidArgument,
    /// No column of that name.
    UnknownColumn,
    /// No table of that name.
    UnknownTable,
    /// No cell of that name.
    UnknownCell,
    /// No gene of that name.
    UnknownGene,
    /// A name that stands for more than one cell or gene.
    AmbiguousName,
    /// An index outside of the axis.
    OutOfRange,
    /// Another writer committed first, or replaced the store under an open handle.
    Conflict,
    /// The answer of the store to a commit was lost.
    CommitOutcomeUnknown,
    /// The operating system or the object store denied access.
    PermissionDenied,
    /// No space left on the device.
    DiskFull,
    /// The limit of open files is reached.
    TooManyFiles,
    /// The memory budget does not suffice.
    MemoryLimit,
    /// The time limit of a query is over.
    TimeLimit,
    /// An SQL text is wrong.
    InvalidQuery,
    /// An SQL statement that would write, or reach outside of the store.
    ReadOnly,
    /// The user interrupted the operation.
    Interrupted,
    /// Any other failure of reading or writing.
    Io,
    /// A defect of SLAF itself.
    Internal,
}

impl ErrorKind {
    /// Every kind, in order of declaration.
    pub const ALL: &[ErrorKind] = {
        use ErrorKind::*;
        &[
            NotFound, AlreadyExists, NotAStore, UnknownFormat, UnsupportedFeature, UnsupportedInput, MalformedInput,
            Corrupt, WouldLoseData, InvalidArgument, UnknownColumn, UnknownTable, UnknownCell, UnknownGene,
            AmbiguousName, OutOfRange, Conflict, CommitOutcomeUnknown, PermissionDenied, DiskFull, TooManyFiles,
            MemoryLimit, TimeLimit, InvalidQuery, ReadOnly, Interrupted, Io, Internal,
        ]
    };

    /// The stable name, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::AlreadyExists => "already-exists",
            ErrorKind::NotAStore => "not-a-store",
            ErrorKind::UnknownFormat => "unknown-format",
            ErrorKind::UnsupportedFeature => "unsupported-feature",
            ErrorKind::UnsupportedInput => "unsupported-input",
            ErrorKind::MalformedInput => "malformed-input",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::WouldLoseData => "would-lose-data",
            ErrorKind::InvalidArgument => "invalid-argument",
            ErrorKind::UnknownColumn => "unknown-column",
            ErrorKind::UnknownTable => "unknown-table",
            ErrorKind::UnknownCell => "unknown-cell",
            ErrorKind::UnknownGene => "unknown-gene",
            ErrorKind::AmbiguousName => "ambiguous-name",
            ErrorKind::OutOfRange => "out-of-range",
            ErrorKind::Conflict => "conflict",
            ErrorKind::CommitOutcomeUnknown => "commit-outcome-unknown",
            ErrorKind::PermissionDenied => "permission-denied",
            ErrorKind::DiskFull => "disk-full",
            ErrorKind::TooManyFiles => "too-many-files",
            ErrorKind::MemoryLimit => "memory-limit",
            ErrorKind::TimeLimit => "time-limit",
            ErrorKind::InvalidQuery => "invalid-query",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::Interrupted => "interrupted",
            ErrorKind::Io => "io",
            ErrorKind::Internal => "internal",
        }
    }
}

/// The error of every SLAF operation: a [kind](ErrorKind), the file or element at fault, and a
/// message that says what to do next.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    location: Option<String>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of every SLAF operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. Addresses in the message, and in places, lose their users and passwords.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, location: None, message: without_users(message.into()), source: None }
    }

    /// A file that breaks the rules of its format.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::MalformedInput, message)
    }

    /// A damaged file of a store.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A wrong argument.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the place at fault. Called again by an outer caller, it puts the outer place before
    /// the inner one: `at("/X/indptr")` then `at("a.h5ad")` reads `a.h5ad: /X/indptr`. A place that begins
    /// with the outer one names it already: two callers that know the same file name it once.
    #[must_use]
    pub fn at(mut self, outer: impl fmt::Display) -> Self {
        let outer = without_users(outer.to_string());
        self.location = Some(match self.location.take() {
            Some(inner) if begins_with(&inner, &outer) => inner,
            Some(inner) => format!("{outer}: {inner}"),
            None => outer,
        });
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file, table, column or element at fault, if one is known.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The message without the location.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Whether a place is another one, or lies in it.
fn begins_with(place: &str, outer: &str) -> bool {
    place.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(": "))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl ErrorKind {
    /// The kind of an error of the operating system, also of one that another error wraps.
    pub fn of_io(e: &std::io::Error) -> ErrorKind {
        use std::io::ErrorKind as Io;
        let code = e.raw_os_error().or_else(|| code_in_text(&e.to_string()));
        let io = code.map_or(e.kind(), |code| std::io::Error::from_raw_os_error(code).kind());
        // EMFILE and ENFILE have no stable `std::io::ErrorKind`.
        match (io, code) {
            (Io::NotFound, _) => ErrorKind::NotFound,
            (Io::AlreadyExists, _) => ErrorKind::AlreadyExists,
            (Io::PermissionDenied | Io::ReadOnlyFilesystem, _) => ErrorKind::PermissionDenied,
            (Io::StorageFull | Io::QuotaExceeded, _) => ErrorKind::DiskFull,
            (Io::Interrupted, _) => ErrorKind::Interrupted,
            (_, Some(23 | 24)) => ErrorKind::TooManyFiles,
            _ => ErrorKind::Io,
        }
    }
}

/// Libraries wrap errors of the system so that only the text keeps the code: `(os error 24)`.
fn code_in_text(text: &str) -> Option<i32> {
    let (_, rest) = text.rsplit_once("(os error ")?;
    rest.split_once(')')?.0.parse().ok()
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::new(ErrorKind::of_io(&e), e.to_string()).with_source(e)
    }
}

/// Finds the first error of type `T` in a chain of causes.
pub fn cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        // An io::Error hides the error that it was made of behind `get_ref`.
        next = match e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

/// Adds the place at fault to the error of a result.
pub trait Context<T> {
    /// See [`Error::at`].
    ///
    /// # Errors
    /// The error of `self`, with the place.
    fn at(self, outer: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, outer: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().at(outer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_distinct_names() {
        let names: std::collections::HashSet<_> = ErrorKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn outer_places_come_first() {
        let e = Error::malformed("not monotone").at("/X/indptr").at("a.h5ad");
        assert_eq!(e.to_string(), "a.h5ad: /X/indptr: not monotone");
    }

    #[test]
    fn a_place_is_named_once() {
        let e = Error::malformed("cut off").at("a.h5ad").at("a.h5ad");
        assert_eq!(e.to_string(), "a.h5ad: cut off");
        let e = Error::malformed("cut off").at("/X/indptr").at("/X").at("a.h5ad").at("a.h5ad");
        assert_eq!(e.to_string(), "a.h5ad: /X/indptr: cut off");
        // Another place that only begins with the same letters.
        let e = Error::malformed("cut off").at("a.h5ad").at("a");
        assert_eq!(e.to_string(), "a: a.h5ad: cut off");
    }
}
