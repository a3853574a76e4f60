use arrow::error::ArrowError;
use slaf::{Error, ErrorKind};
use std::io::{self, Write};

/// What a subcommand comes back with.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a subcommand did not do all of its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments do not fit together.
    Usage(String),
    Failed(Error),
    /// The reader of the standard output is gone, as after `slaf ... | head`.
    ReaderGone,
}

impl Failure {
    /// Names the place of a failure.
    pub(crate) fn at(self, place: &str) -> Failure {
        match self {
            Failure::Failed(e) => Failure::Failed(e.at(place)),
            other => other,
        }
    }

    /// Tells the user and returns the exit status.
    pub(crate) fn report(&self, to: &mut dyn Write) -> i32 {
        // Nobody is left to be told when writing fails.
        match self {
            Failure::Usage(message) => {
                let _ = writeln!(to, "slaf: {message}\n\nFor more information, try 'slaf --help'.");
                2
            }
            Failure::Failed(e) if e.kind() == ErrorKind::Interrupted => {
                let _ = writeln!(to, "slaf: interrupted");
                130
            }
            Failure::Failed(e) => {
                let _ = writeln!(to, "slaf: {e} [{}]", e.kind().as_str());
                1
            }
            Failure::ReaderGone => 0,
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Failed(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe { Failure::ReaderGone } else { Failure::Failed(e.into()) }
    }
}

/// The error that a query's stream carries, as it was.
pub(crate) fn from_arrow(e: ArrowError) -> Failure {
    match e {
        ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
            Ok(e) => Failure::Failed(*e),
            Err(e) => Failure::Failed(Error::new(ErrorKind::Internal, e.to_string()).with_source(e)),
        },
        ArrowError::IoError(_, e) => e.into(),
        e => Failure::Failed(Error::new(ErrorKind::Internal, e.to_string()).with_source(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failure: impl Into<Failure>) -> (i32, String) {
        let mut text = Vec::new();
        let status = failure.into().report(&mut text);
        (status, String::from_utf8(text).unwrap())
    }

    #[test]
    fn failures_have_statuses() {
        let e = Error::invalid("no such thing").at("a.slaf");
        assert_eq!(report(e), (1, "slaf: a.slaf: no such thing [invalid-argument]\n".into()));
        assert_eq!(report(Error::new(ErrorKind::Interrupted, "")), (130, "slaf: interrupted\n".into()));
        assert_eq!(report(io::Error::from(io::ErrorKind::BrokenPipe)), (0, String::new()));
        assert_eq!(report(Failure::Usage("what?".into())).0, 2);
    }
}
