use crate::failure::{Failure, Outcome};
use crate::format::Format;
use crate::interrupt::Interrupt;
use crate::output::{NewFile, Sink, write};
use crate::say;
use crate::table::with_commas;
use arrow::array::RecordBatchReader;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

/// Where and how rows are written.
#[derive(Debug, clap::Args)]
pub(crate) struct AnswerArgs {
    /// How to write the result; by default a table, or what the extension of FILE says
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Write the result to this file
    #[arg(short = 'o', long)]
    file: Option<PathBuf>,
    /// Replace FILE
    #[arg(long, requires = "file")]
    overwrite: bool,
    /// How many rows a table shows
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
}

impl AnswerArgs {
    fn format(&self) -> Outcome<Format> {
        match (self.output, &self.file) {
            (Some(format), None) if format.is_binary() && io::stdout().is_terminal() => {
                Err(Failure::Usage("this output is not for a terminal: give -o FILE".into()))
            }
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Table),
            (None, Some(file)) => Format::of(file).ok_or_else(|| {
                Failure::Usage(format!("the format of {} is not clear from its name: give --output", file.display()))
            }),
        }
    }

    /// Writes what `ask` gives; it runs on a thread that Ctrl-C leaves behind.
    pub(crate) fn write(
        self,
        interrupt: &Interrupt,
        ask: impl FnOnce() -> slaf::Result<Box<dyn RecordBatchReader + Send>> + Send + 'static,
    ) -> Outcome {
        let (format, rows) = (self.format()?, self.rows);
        // Held here and not by the worker, so that Ctrl-C removes it.
        let file = self.file.map(|path| NewFile::create(path, self.overwrite)).transpose()?;
        let sink = match &file {
            Some(file) => Sink::file(file.writer()?, file.path()),
            None => Sink::stdout(),
        };
        let n = interrupt.abandonable(move || write(ask()?, format, rows, sink))?;
        match file {
            Some(file) => say(format_args!("{}: {} rows", file.keep()?.display(), with_commas(n))),
            None => Ok(()),
        }
    }
}
