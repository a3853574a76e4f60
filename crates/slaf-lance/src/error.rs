//! Errors of the libraries beneath, as kinds of our own.

use slaf_core::{Error, ErrorKind, cause};
use std::error::Error as StdError;

/// The codes of a bucket or container that does not exist, of S3, Google and Azure.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

/// The kind that an error deserves by its causes.
fn kind_of(error: &(dyn StdError + 'static), otherwise: ErrorKind) -> ErrorKind {
    if let Some(ours) = cause::<Error>(error) {
        return ours.kind();
    }
    if let Some(io) = cause::<std::io::Error>(error) {
        let kind = ErrorKind::of_io(io);
        return if kind == ErrorKind::Io { otherwise } else { kind };
    }
    match cause::<object_store::Error>(error) {
        Some(object_store::Error::NotFound { .. }) => ErrorKind::NotFound,
        Some(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            ErrorKind::AlreadyExists
        }
        Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
            ErrorKind::PermissionDenied
        }
        Some(e @ object_store::Error::Generic { .. }) if NO_BUCKET.iter().any(|code| e.to_string().contains(code)) => {
            ErrorKind::NotFound
        }
        // Listing has no errors of its own for these.
        Some(e @ object_store::Error::Generic { .. })
            if ["status code: 401", "status code: 403"].iter().any(|s| e.to_string().contains(s)) =>
        {
            ErrorKind::PermissionDenied
        }
        _ => otherwise,
    }
}

/// The text of an error and its causes without the source locations that Lance adds, in one line.
fn text(error: &dyn StdError) -> String {
    let text = error.to_string();
    if let Some(answer) = answer_of_store(&text) {
        return answer;
    }
    let text = match text.find(", /").or_else(|| text.find(", rust/")) {
        Some(at) => &text[..at],
        None => &text,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What an object store answers in XML: the code of its error and the message.
fn answer_of_store(text: &str) -> Option<String> {
    let (_, error) = text.split_once("<Error>")?;
    let element = |name: &str| {
        let (_, rest) = error.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim())
    };
    let code = element("Code")?;
    let bucket = element("BucketName").map(|b| format!(" (bucket \"{b}\")")).unwrap_or_default();
    // What follows the first line are numbers of the request.
    let message = element("Message").and_then(|m| m.lines().next());
    let message = message.map(|m| format!(": {}", m.trim())).unwrap_or_default();
    Some(format!("the object store answers {code}{message}{bucket}"))
}

pub fn from_lance(error: lance::Error) -> Error {
    let otherwise = match &error {
        lance::Error::DatasetNotFound { .. } | lance::Error::NotFound { .. } => ErrorKind::NotFound,
        lance::Error::CorruptFile { .. } => ErrorKind::Corrupt,
        lance::Error::CommitConflict { .. } | lance::Error::RetryableCommitConflict { .. } => ErrorKind::Conflict,
        _ => ErrorKind::Io,
    };
    Error::new(kind_of(&error, otherwise), text(&error)).with_source(error)
}

pub fn from_object_store(error: object_store::Error) -> Error {
    Error::new(kind_of(&error, ErrorKind::Io), text(&error)).with_source(error)
}

pub fn from_arrow(error: arrow::error::ArrowError) -> Error {
    Error::new(kind_of(&error, ErrorKind::Internal), error.to_string()).with_source(error)
}

/// An error while a store is read: what is missing or senseless there is damage.
pub fn while_reading(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Io | ErrorKind::Internal => {
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

    fn generic(source: &str) -> Error {
        from_object_store(object_store::Error::Generic { store: "S3", source: source.into() })
    }

    #[test]
    fn an_answer_in_xml_is_one_line() {
        let error = generic(
            "Client error with status 404 Not Found: <?xml version=\"1.0\"?>\n<Error>\n <Code>NoSuchBucket</Code>\n \
             <Message>The specified bucket does not exist</Message>\n <BucketName>b</BucketName></Error>",
        );
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let line = "the object store answers NoSuchBucket: The specified bucket does not exist (bucket \"b\")";
        assert_eq!(error.message(), line);
        let error = generic(
            "<Error><Code>ContainerNotFound</Code><Message>The specified container does not exist.\n\
             RequestId:1\nTime:2\n</Message></Error>",
        );
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.message(),
            "the object store answers ContainerNotFound: The specified container does not exist."
        );
        assert_eq!(generic("a\n  b").message(), "Generic S3 error: a b");
    }
}
