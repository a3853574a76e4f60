//! Errors between DataFusion and SLAF.

use crate::unknown::did_you_mean;
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
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
            ArrowError::ExternalError(_) | ArrowError::IoError(..) => ErrorKind::Internal,
            _ => ErrorKind::InvalidQuery,
        },
        _ => ErrorKind::Internal,
    };
    let text = root.strip_backtrace();
    let prefixes = ["Error during planning: ", "Execution error: ", "Schema error: ", "SQL error: ", "Arrow error: "];
    let text = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text);
    let duckdb = matches!(root, DataFusionError::SQL(..) | DataFusionError::NotImplemented(_))
        || text.starts_with("Invalid function");
    let hint = if duckdb { "; if this is DuckDB's dialect, pass engine=\"duckdb\"" } else { "" };
    Error::new(kind, format!("{text}{hint}"))
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error.find_root() {
        DataFusionError::Diagnostic(_, inner) => inner.find_root(),
        root => root,
    }
}

/// The column that is not there, and those that are, if that is the error.
pub(crate) fn unknown_field(error: &DataFusionError) -> Option<(&str, Vec<&str>)> {
    let DataFusionError::SchemaError(schema, _) = root(error) else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = &**schema else { return None };
    Some((&field.name, valid_fields.iter().map(|f| f.name.as_str()).collect()))
}
