use arrow::error::ArrowError;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::signal_name;
use slaf::{Error, ErrorKind};
use std::ffi::c_int;
use std::io::{self, Write};

/// What a subcommand comes back with.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a subcommand did not do all of its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments do not fit together.
    Usage(String),
    Failed(Error),
    /// A signal came, and what was being written was not removed in time.
    Abandoned,
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

    /// Tells the user and returns the exit status. `signal` is the one that came.
    pub(crate) fn report(&self, to: &mut dyn Write, signal: Option<c_int>) -> i32 {
        let signal = signal.unwrap_or(SIGINT);
        let interrupted = match signal_name(signal).filter(|_| signal != SIGINT) {
            Some(name) => format!("slaf: interrupted by {name}"),
            None => "slaf: interrupted".to_string(),
        };
        // Nobody is left to be told when writing fails.
        match self {
            Failure::Usage(message) => {
                let _ = writeln!(to, "slaf: {message}\n\nFor more information, try 'slaf --help'.");
                2
            }
            Failure::Failed(e) if e.kind() == ErrorKind::Interrupted => {
                let _ = writeln!(to, "{interrupted}");
                status(signal)
            }
            Failure::Abandoned => {
                let left = "what was being written is not removed: slaf versions tells whether the change was made, \
                            and slaf gc removes what is left of it";
                let _ = writeln!(to, "{interrupted}; {left}");
                status(signal)
            }
            Failure::Failed(e) => {
                let _ = writeln!(to, "slaf: {e} [{}]", e.kind().as_str());
                1
            }
            Failure::ReaderGone => 0,
        }
    }
}

/// The status with which a shell tells that a signal ended a process.
pub(crate) fn status(signal: c_int) -> i32 {
    128 + signal
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
    use signal_hook::consts::SIGTERM;

    fn report(failure: impl Into<Failure>) -> (i32, String) {
        let mut text = Vec::new();
        let status = failure.into().report(&mut text, None);
        (status, String::from_utf8(text).unwrap())
    }

    #[test]
    fn failures_have_statuses() {
        let e = Error::invalid("no such thing").at("a.slaf");
        assert_eq!(report(e), (1, "slaf: a.slaf: no such thing [invalid-argument]\n".into()));
        assert_eq!(report(Error::new(ErrorKind::Interrupted, "")), (130, "slaf: interrupted\n".into()));
        assert_eq!(report(io::Error::from(io::ErrorKind::BrokenPipe)), (0, String::new()));
        assert_eq!(report(Failure::Usage("what?".into())).0, 2);
        let mut text = Vec::new();
        let interrupted = Failure::from(Error::new(ErrorKind::Interrupted, ""));
        assert_eq!(interrupted.report(&mut text, Some(SIGTERM)), 143);
        assert_eq!(String::from_utf8(text).unwrap(), "slaf: interrupted by SIGTERM\n");
    }
}
