use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow::{self, GcOptions};
use std::time::Duration;

/// Remove old versions of a store, and the files that no other version needs
///
/// The newest version stays, and so do versions with tags, and on a local disk those that are open.
/// Without --delete it only says what would go.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf gc atlas.slaf --older-than 30d\n\
        \x20 slaf gc atlas.slaf --older-than 30d --delete")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// Versions that are the newest no longer for so long: 30m, 12h, 14d, 2w; a number alone is seconds
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "14d")]
    older_than: Duration,
    /// Remove them
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, older_than, delete, storage } = args;
    let options = GcOptions { older_than, dry_run: !delete };
    say(interrupt.change(move |_| Ok(grow::gc(&store, &options, &storage.grow())?))?)
}

/// A number of seconds, minutes, hours, days or weeks.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds: Option<u64> = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        "w" => Some(7 * 24 * 3600),
        _ => None,
    };
    number
        .parse()
        .ok()
        .and_then(|n: u64| n.checked_mul(seconds?))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a time such as 30m, 12h, 14d or 2w".to_string())
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(14 * 86_400)));
        for wrong in ["", "d", "-1d", "1y", "1.5h", "99999999999999999999w"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
