use clap::ValueEnum;
use std::path::Path;

/// How the result of a query is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: the first rows, and how many there are
    Table,
    /// With a header line
    Csv,
    /// An array of objects
    Json,
    Parquet,
    /// An Arrow IPC file, or an Arrow IPC stream on the standard output
    Arrow,
}

impl Format {
    /// The format that the extension of a file stands for.
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "json" => Some(Format::Json),
            "parquet" => Some(Format::Parquet),
            "arrow" | "feather" => Some(Format::Arrow),
            "txt" => Some(Format::Table),
            _ => None,
        }
    }

    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }
}
