use slaf::grow::GrowOptions;
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

    /// Opens a version by its number or its tag, the newest one by default.
    pub(crate) fn open(&self, store: &str, version: Option<&str>, verify: Verify) -> Result<Dataset> {
        let number = version.and_then(|v| v.parse().ok());
        let tag = version.filter(|_| number.is_none()).map(str::to_string);
        let storage_options = self.to_map();
        Dataset::open_with(store, &DatasetOptions { version: number, tag, storage_options, verify, time: None })
    }

    pub(crate) fn grow(&self) -> GrowOptions {
        GrowOptions { storage_options: self.to_map(), ..GrowOptions::default() }
    }
}

/// The store that a subcommand reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The store: a folder, or a path that begins with file://, s3://, gs:// or az://
    store: String,
    /// Read this version of the store instead of the newest: its number or its tag
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    storage: StorageArgs,
}

impl StoreArgs {
    pub(crate) fn storage_options(&self) -> HashMap<String, String> {
        self.storage.to_map()
    }

    pub(crate) fn open(&self) -> Result<Dataset> {
        self.open_with(Verify::OnRequest)
    }

    pub(crate) fn open_with(&self, verify: Verify) -> Result<Dataset> {
        self.storage.open(&self.store, self.version.as_deref(), verify)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        // The text itself may hold a secret: it is not repeated.
        _ => Err("expected KEY=VALUE".to_string()),
    }
}
