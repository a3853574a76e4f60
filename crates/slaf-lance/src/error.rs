//! Errors of the libraries beneath, as kinds of our own.
//!
//! What a store did not do is an outage (`io`, `permission-denied`) and says nothing of its content;
//! only what bytes prove is damage. The types of the errors tell them apart. Of an HTTP answer that
//! is refused, the libraries keep the status in the text alone.

use crate::trouble::{Trouble, answer_of_store, code_of, not_reached, status};
use slaf_core::{Error, ErrorKind, cause};
use std::error::Error as StdError;
use std::io;

/// The codes of a bucket or container that does not exist, of S3 and Google, and of Azure.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

/// Stores of the libraries that are files of this machine, or memory.
const LOCAL: [&str; 3] = ["LocalFileSystem", "InMemory", "memory"];

/// The kind of an error by its causes, if these tell.
fn kind_of(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    if let Some(ours) = cause::<Error>(error) {
        return Some(ours.kind());
    }
    if let Some(e) = cause::<object_store::Error>(error) {
        return kind_of_store(e);
    }
    if let Some(e) = cause::<io::Error>(error) {
        return Some(kind_of_io(e));
    }
    match cause::<lance::Error>(error)? {
        // What gives credentials fails within Lance.
        e @ lance::Error::IO { .. } => Trouble::of(&e.to_string()).map(Trouble::kind),
        lance::Error::CorruptFile { .. } => Some(ErrorKind::Corrupt),
        lance::Error::CommitConflict { .. } | lance::Error::RetryableCommitConflict { .. } => Some(ErrorKind::Conflict),
        lance::Error::Timeout { .. } => Some(ErrorKind::Io),
        lance::Error::DatasetNotFound { .. } | lance::Error::NotFound { .. } | lance::Error::VersionNotFound { .. } => {
            Some(ErrorKind::NotFound)
        }
        _ => None,
    }
}

/// A local file that ends too early, or holds what it may not, is damaged.
fn kind_of_io(e: &io::Error) -> ErrorKind {
    match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Corrupt,
        _ => ErrorKind::of_io(e),
    }
}

fn kind_of_store(e: &object_store::Error) -> Option<ErrorKind> {
    let kind = match e {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            ErrorKind::AlreadyExists
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            ErrorKind::PermissionDenied
        }
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
            ErrorKind::UnsupportedFeature
        }
        object_store::Error::JoinError { .. } => ErrorKind::Internal,
        object_store::Error::Generic { store, source } => {
            let is_wrapper =
                cause::<object_store::Error>(&**source).is_some() || cause::<lance::Error>(&**source).is_some();
            match cause::<io::Error>(&**source) {
                _ if is_wrapper => return kind_of(&**source),
                Some(io) if LOCAL.contains(store) => kind_of_io(io),
                // A range beyond the end of the file has no type.
                None if LOCAL.contains(store) => ErrorKind::Corrupt,
                _ => kind_of_answer(&source.to_string()),
            }
        }
        _ => ErrorKind::Io,
    };
    Some(kind)
}

/// The kind of what an object store answered, which only the text tells.
fn kind_of_answer(text: &str) -> ErrorKind {
    if let Some(trouble) = Trouble::of(text) {
        return trouble.kind();
    }
    match (code_of(text), status(text)) {
        (Some(code), _) if NO_BUCKET.contains(&code) => ErrorKind::NotFound,
        (Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken"), _) => {
            ErrorKind::PermissionDenied
        }
        (_, Some(401 | 403)) => ErrorKind::PermissionDenied,
        // A range beyond the end of the file.
        (_, Some(416)) => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    }
}

/// The text of an error and its causes without the source locations that Lance adds, in one line.
fn text(error: &dyn StdError) -> String {
    let text = error.to_string();
    if let Some(trouble) = Trouble::of(&text) {
        return trouble.message(&text);
    }
    if let Some(answer) = answer_of_store(&text) {
        return answer;
    }
    let text = match text.find(", /").or_else(|| text.find(", rust/")) {
        Some(at) => &text[..at],
        None => &text,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A request that an object store did not carry out, or refused.
pub(crate) struct Outage {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// How often the client tried.
    pub(crate) tries: usize,
    /// Whether it was a bad request and the answer has no body that says why, as one to HEAD: perhaps
    /// the credentials have expired.
    pub(crate) unexplained: bool,
}

/// The outage that an error of an object store tells of.
pub(crate) fn outage(error: &object_store::Error) -> Option<Outage> {
    let kind = kind_of_store(error)?;
    let whole = error.to_string();
    let message = match kind {
        ErrorKind::Io => not_reached(error).unwrap_or_else(|| of_request(&text(error))),
        // Its text says what to do.
        ErrorKind::PermissionDenied if Trouble::of(&whole).is_some() => text(error),
        ErrorKind::PermissionDenied => {
            format!("{}; check the credentials, or renew them if they have expired", of_request(&text(error)))
        }
        _ => return None,
    };
    // The client's count is private to its error, and public in its text.
    let count = |text: &str| text.split_once(", after ")?.1.split_once(" retries")?.0.parse::<usize>().ok();
    let unexplained = status(&whole) == Some(400) && answer_of_store(&whole).is_none();
    Some(Outage { kind, message, tries: 1 + count(&whole).unwrap_or(0), unexplained })
}

/// What a client says of a request that failed, without its settings.
fn of_request(text: &str) -> String {
    let parts = || {
        let (_, rest) = text.rsplit_once("Error performing ")?;
        let (request, rest) = rest.split_once(" in ")?;
        let (_, reason) = rest.split_once(" - ")?;
        let reason = match reason.split_once("status code: ") {
            Some((_, status)) => format!("the object store answers {}", status.trim_end_matches([':', ' '])),
            None => reason.to_string(),
        };
        Some(format!("{reason} ({request})"))
    };
    parts().unwrap_or_else(|| text.to_string())
}

/// An error of Lance while it writes.
pub fn from_lance(error: lance::Error) -> Error {
    from_lance_or(error, ErrorKind::Io)
}

/// An error of Lance while it reads: where no cause tells otherwise, it cannot make sense of what it
/// reads.
pub(crate) fn from_lance_reading(error: lance::Error) -> Error {
    from_lance_or(error, ErrorKind::Internal)
}

/// The error in the wrappers that do not count as causes.
fn within(error: &lance::Error) -> &(dyn StdError + 'static) {
    match error {
        lance::Error::External { source } => match source.downcast_ref::<lance::Error>() {
            Some(inner) => within(inner),
            None => &**source,
        },
        lance::Error::Shared { source } => within(source),
        other => other,
    }
}

fn from_lance_or(error: lance::Error, otherwise: ErrorKind) -> Error {
    Error::new(kind_of(within(&error)).unwrap_or(otherwise), text(&error)).with_source(error)
}

/// An error of an object store, of the kind that its type says; `io` where it says none.
pub fn from_object_store(error: object_store::Error) -> Error {
    let text = match &error {
        // The text has the path again, as the library has it, and a code.
        object_store::Error::NotFound { .. } => "no such file".to_string(),
        other => text(other),
    };
    Error::new(kind_of_store(&error).unwrap_or(ErrorKind::Io), text).with_source(error)
}

/// An error of Arrow: the kind of the one that it carries, or else a fault of this library.
pub fn from_arrow(error: arrow::error::ArrowError) -> Error {
    Error::new(kind_of(&error).unwrap_or(ErrorKind::Internal), error.to_string()).with_source(error)
}

/// An error while files are read that the root manifest names: one that is missing is damage, and
/// so is what makes the reader fail.
pub fn while_reading(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Internal => {
            let place = error.location().map(str::to_owned);
            let damaged = Error::corrupt(format!("{} (`slaf verify` checks the whole store)", error.message()));
            let damaged = match place {
                Some(p) => damaged.at(p),
                None => damaged,
            };
            damaged.with_source(error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(store: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store, source: source.into() }
    }

    #[test]
    fn an_answer_in_xml_is_one_line() {
        let error = from_object_store(generic(
            "S3",
            "Client error with status 404 Not Found: <?xml version=\"1.0\"?>\n<Error>\n <Code>NoSuchBucket</Code>\n \
             <Message>The specified bucket does not exist</Message>\n <BucketName>b</BucketName></Error>",
        ));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let line = "the object store answers NoSuchBucket: The specified bucket does not exist (bucket \"b\")";
        assert_eq!(error.message(), line);
        let error = from_object_store(generic(
            "S3",
            "<Error><Code>ContainerNotFound</Code><Message>The specified container does not exist.\n\
             RequestId:1\nTime:2\n</Message></Error>",
        ));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.message(),
            "the object store answers ContainerNotFound: The specified container does not exist."
        );
        assert_eq!(from_object_store(generic("S3", "a\n  b")).message(), "Generic S3 error: a b");
    }

    #[test]
    fn another_region_is_named() {
        for (text, said) in [
            (
                "status code: 400: <Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is \
                 wrong; expecting 'eu-west-1'</Message></Error>",
                "expecting 'eu-west-1'",
            ),
            (
                "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
                "elsewhere",
            ),
        ] {
            let error = from_object_store(generic("S3", text));
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(said) && error.message().contains("aws_region"), "{error}");
            assert!(outage(&generic("S3", text)).is_none());
        }
    }

    #[test]
    fn outages_are_told_from_damage() {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for (error, kind) in [
            // A body that ends early on the way proves nothing of the file; a local file does.
            (generic("S3", eof()), ErrorKind::Io),
            (generic("LocalFileSystem", eof()), ErrorKind::Corrupt),
            (generic("memory", "Invalid range 0..0"), ErrorKind::Corrupt),
            (generic("N/A", generic("S3", eof())), ErrorKind::Io),
            (generic("N/A", lance::Error::not_found("a")), ErrorKind::NotFound),
            (generic("LocalFileSystem", io::Error::from_raw_os_error(5)), ErrorKind::Io),
            (generic("LocalFileSystem", io::Error::from_raw_os_error(13)), ErrorKind::PermissionDenied),
            (generic("S3", "Server returned non-2xx status code: 500 Internal Server Error: "), ErrorKind::Io),
            (generic("S3", "Server returned non-2xx status code: 403 Forbidden: "), ErrorKind::PermissionDenied),
            (generic("S3", "Server returned non-2xx status code: 416 Range: "), ErrorKind::Corrupt),
            (generic("S3", "status code: 400: <Error><Code>ExpiredToken</Code></Error>"), ErrorKind::PermissionDenied),
            (object_store::Error::NotFound { path: "a".into(), source: "gone".into() }, ErrorKind::NotFound),
        ] {
            assert_eq!(from_object_store(error).kind(), kind);
        }
    }

    #[test]
    fn the_cause_of_an_error_of_lance_tells_its_kind() {
        for (error, kind) in [
            (lance::Error::from(generic("S3", "error sending request")), ErrorKind::Io),
            (lance::Error::from(generic("S3", "status code: 403 Forbidden")), ErrorKind::PermissionDenied),
            (lance::Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)), ErrorKind::Corrupt),
            (lance::Error::from(io::Error::from_raw_os_error(24)), ErrorKind::TooManyFiles),
            (lance::Error::io("the footer has a wrong magic number"), ErrorKind::Corrupt),
            (lance::Error::internal("out of bounds"), ErrorKind::Corrupt),
        ] {
            let error = while_reading(from_lance_reading(error));
            assert_eq!(error.kind(), kind, "{error}");
        }
        let missing = object_store::Error::NotFound { path: "a".into(), source: "gone".into() };
        assert_eq!(while_reading(from_lance_reading(missing.into())).kind(), ErrorKind::Corrupt);
        assert_eq!(from_lance(lance::Error::io("no cause")).kind(), ErrorKind::Io);
    }

    #[test]
    fn tries_are_counted() {
        let text = "Error performing GET http://a in 1s, after 3 retries, max_retries: 3, retry_timeout: 180s - x";
        let outage = outage(&generic("S3", text)).unwrap();
        assert_eq!((outage.kind, outage.tries), (ErrorKind::Io, 4));
        assert_eq!(outage.message, "x (GET http://a)");
    }
}
