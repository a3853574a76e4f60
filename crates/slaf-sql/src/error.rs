//! Errors between DataFusion and SLAF.

use crate::unknown::did_you_mean;
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use slaf_core::{Error, ErrorKind, cause, near};

/// An error of ours on its way through DataFusion.
pub fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of DataFusion: one of ours that went through it as it was, another without
/// DataFusion's prefixes, an unknown column with near names.
pub fn from_datafusion(error: DataFusionError) -> Error {
    if let Some(ours) = cause::<Error>(&error) {
        let copy = Error::new(ours.kind(), ours.message());
        return match ours.location() {
            Some(place) => copy.at(place),
            None => copy,
        };
    }
    // Reading has errors of ours, so that these are about the temporary files of the query.
    if let Some(io) = cause::<std::io::Error>(&error) {
        let kind = match ErrorKind::of_io(io) {
            ErrorKind::NotFound => ErrorKind::Io,
            kind => kind,
        };
        let folder = std::env::temp_dir();
        let message = format!("a temporary file of the query: {io}; TMPDIR says where they are");
        return Error::new(kind, message).at(folder.display());
    }
    let root = root(&error);
    let kind = match root {
        DataFusionError::ResourcesExhausted(_) => ErrorKind::MemoryLimit,
        DataFusionError::SchemaError(..) => {
            if let Some((name, columns)) = unknown_field(&error) {
                let hint = did_you_mean(&near(name, columns.into_iter()));
                return Error::new(ErrorKind::UnknownColumn, format!("no column \"{name}\"{hint}"));
            }
            ErrorKind::InvalidQuery
        }
        DataFusionError::Execution(_)
        | DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_) => ErrorKind::InvalidQuery,
        DataFusionError::ArrowError(e, _) => match **e {
            ArrowError::ExternalError(_) => ErrorKind::Internal,
            _ => ErrorKind::InvalidQuery,
        },
        DataFusionError::External(e) if e.to_string().starts_with("regex parse error") => ErrorKind::InvalidQuery,
        _ => ErrorKind::Internal,
    };
    let text = match root {
        DataFusionError::SQL(e, _) => match &**e {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
            other => other.to_string(),
        },
        root => root.strip_backtrace(),
    };
    // Each function has its own way to pass on what the regex crate says.
    if text.contains("CompiledTooBig") || text.contains("Compiled regex exceeds size limit") {
        return Error::new(
            ErrorKind::InvalidQuery,
            "a regular expression is too large: its repetitions make too many states",
        );
    }
    let prefixes =
        ["Error during planning: ", "Execution error: ", "Schema error: ", "Arrow error: ", "External error: "];
    let text = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text);
    let duckdb = matches!(root, DataFusionError::SQL(..) | DataFusionError::NotImplemented(_))
        || text.starts_with("Invalid function");
    let hint = if duckdb { OF_DUCKDB } else { "" };
    Error::new(kind, format!("{text}{hint}"))
}

/// What to do with a query that DuckDB answers, in Python and on the command line.
pub(crate) const OF_DUCKDB: &str = "; if this is DuckDB's dialect, pass engine=\"duckdb\" in Python, or write the rows \
                                    that it is about with slaf query -o rows.parquet and give that file to duckdb";

fn root(error: &DataFusionError) -> &DataFusionError {
    match error.find_root() {
        DataFusionError::Diagnostic(_, inner) => inner.find_root(),
        root => root,
    }
}

/// Whether the error is that two expressions have one name.
pub(crate) fn is_repeated_name(error: &DataFusionError) -> bool {
    match root(error) {
        DataFusionError::SchemaError(schema, _) => matches!(
            **schema,
            SchemaError::DuplicateUnqualifiedField { .. } | SchemaError::DuplicateQualifiedField { .. }
        ),
        // Of windows and projections.
        DataFusionError::Plan(text) => text.contains("require unique expression names"),
        _ => false,
    }
}

/// The column that is not there, and those that are, if that is the error.
pub(crate) fn unknown_field(error: &DataFusionError) -> Option<(&str, Vec<&str>)> {
    let DataFusionError::SchemaError(schema, _) = root(error) else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = &**schema else { return None };
    Some((&field.name, valid_fields.iter().map(|f| f.name.as_str()).collect()))
}
