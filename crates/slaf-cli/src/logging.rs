//! Messages about what is done, on the standard error: off unless they are asked for.
//!
//! The libraries mark their work with spans of `tracing`; here they become lines, one when a span
//! ends, with the time that it took.

use slaf::{Error, Result};
use std::io;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

/// The environment variable that asks for messages.
pub const VARIABLE: &str = "SLAF_LOG";

/// Shows messages from `wanted` on: `error`, `warn`, `info`, `debug` or `trace` of SLAF itself,
/// or targets with levels, such as `slaf=debug,lance=info`. `off` shows none.
///
/// # Errors
/// `invalid-argument` for other text, and if the process shows messages already.
pub fn start(wanted: &str) -> Result<()> {
    let targets = targets(wanted)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_filter(targets);
    let started = tracing_subscriber::registry().with(lines).try_init();
    started.map_err(|_| Error::invalid("messages of this process are shown already, from its start to its end"))
}

/// Shows the messages that the environment variable asks for, if it is set.
///
/// # Errors
/// As [`start`].
pub fn start_from_environment() -> Result<()> {
    match std::env::var_os(VARIABLE) {
        Some(wanted) if !wanted.is_empty() => {
            start(&wanted.to_string_lossy()).map_err(|e| Error::new(e.kind(), e.message()).at(VARIABLE))
        }
        _ => Ok(()),
    }
}

fn targets(wanted: &str) -> Result<Targets> {
    let wanted = wanted.trim();
    if let Ok(level) = wanted.parse::<LevelFilter>() {
        // All crates of SLAF: targets are compared by how they begin.
        return Ok(Targets::new().with_target("slaf", level));
    }
    let known = wanted.contains('=').then(|| wanted.parse::<Targets>().ok()).flatten();
    known.ok_or_else(|| {
        let message = format!("\"{wanted}\" is no level of messages: error, warn, info, debug, trace, off");
        Error::invalid(format!("{message}, or targets such as slaf=debug,lance=info"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_of_slaf_alone() {
        let targets = targets("debug").unwrap();
        assert!(targets.would_enable("slaf::dataset", &tracing::Level::DEBUG));
        assert!(targets.would_enable("slaf_lance::storage", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("slaf", &tracing::Level::TRACE));
        assert!(!targets.would_enable("lance::dataset", &tracing::Level::ERROR));
    }

    #[test]
    fn targets_have_levels_of_their_own() {
        let targets = targets("slaf=info,lance=warn").unwrap();
        assert!(targets.would_enable("lance::io", &tracing::Level::WARN));
        assert!(!targets.would_enable("slaf", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("datafusion", &tracing::Level::ERROR));
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in ["loud", "slaf", "slaf=loud"] {
            assert!(targets(wrong).unwrap_err().message().contains("error, warn, info"), "{wrong}");
        }
    }
}
