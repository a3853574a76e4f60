use slaf::{Dataset, DatasetOptions, Result, Verify};
use std::collections::HashMap;

/// Options for reaching a store in the cloud.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StorageArgs {
    /// An option of the object store, for example aws_region=eu-west-1 (repeatable)
    #[arg(long = "storage-option", value_name = "KEY=VALUE", value_parser = key_value)]
    options: Vec<(String, String)>,
}

impl StorageArgs {
    pub(crate) fn to_map(&self) -> HashMap<String, String> {
        self.options.iter().cloned().collect()
    }
}

/// The store that a subcommand reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The store: a folder, or a path that begins with file://, s3://, gs:// or az://
    store: String,
    /// Read this version of the store instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    #[command(flatten)]
    storage: StorageArgs,
}

impl StoreArgs {
    pub(crate) fn open(&self) -> Result<Dataset> {
        self.open_with(Verify::OnRequest)
    }

    pub(crate) fn open_with(&self, verify: Verify) -> Result<Dataset> {
        let options = DatasetOptions { version: self.version, storage_options: self.storage.to_map(), verify };
        Dataset::open_with(&self.store, &options)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        // The text itself may hold a secret: it is not repeated.
        _ => Err("expected KEY=VALUE".to_string()),
    }
}
