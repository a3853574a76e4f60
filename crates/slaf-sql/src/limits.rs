//! What one query may use, and how it is stopped.
//!
//! DataFusion has no place for either: they travel as an extension of a query's settings, which
//! functions and rules see.

use crate::error::to_datafusion;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use slaf_core::{Error, ErrorKind};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The share of the memory of all queries that one call of a function may fill.
const SHARE_OF_A_CALL: usize = 8;

/// What one query may use. Clones share it.
#[derive(Clone, Debug)]
pub struct Limits {
    stopped: Arc<AtomicBool>,
    pool: Arc<dyn MemoryPool>,
    /// Bytes that one call of a function may make.
    call: usize,
}

impl Limits {
    /// Limits of a query that takes its memory from a pool of this many bytes.
    pub fn new(pool: Arc<dyn MemoryPool>, bytes: usize) -> Limits {
        Limits { stopped: Arc::default(), pool, call: bytes / SHARE_OF_A_CALL }
    }

    /// Puts the limits into the settings of a query.
    pub fn put_into(&self, state: &mut SessionState) {
        state.config_mut().options_mut().extensions.insert(self.clone());
        // Expressions keep the settings of when their query began.
        state.mark_start_execution();
    }

    /// The limits of the query that has these settings.
    pub fn of(options: &ConfigOptions) -> Option<&Limits> {
        options.extensions.get::<Limits>()
    }

    /// Lets the query end at its next check: planning between two rules, functions that may take
    /// long or fill memory, and windows.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Fails when the query was stopped.
    ///
    /// # Errors
    /// `interrupted`.
    pub fn check(&self) -> DfResult<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(to_datafusion(Error::new(ErrorKind::Interrupted, "the query was stopped"))),
            false => Ok(()),
        }
    }

    /// Memory for what one call of a function makes.
    pub(crate) fn for_call(&self, function: &str, bytes: u128) -> DfResult<MemoryReservation> {
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.call => self.reserve(function, bytes),
            _ => Err(too_much(function, bytes, self.call)),
        }
    }

    /// Memory that counts against what all queries may hold.
    ///
    /// # Errors
    /// DataFusion's, of exhausted resources.
    pub fn reserve(&self, what: &str, bytes: usize) -> DfResult<MemoryReservation> {
        let reservation = MemoryConsumer::new(what).register(&self.pool);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }
}

pub(crate) fn too_much(function: &str, bytes: u128, limit: usize) -> DataFusionError {
    let message = format!(
        "{function} would make {bytes} bytes at once, beyond the limit of {limit}: ask for less, or raise \
         SLAF_QUERY_MEMORY"
    );
    to_datafusion(Error::new(ErrorKind::MemoryLimit, message))
}

impl ConfigExtension for Limits {
    const PREFIX: &'static str = "slaf";
}

impl ExtensionOptions for Limits {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> DfResult<()> {
        Err(DataFusionError::Configuration(format!("no setting slaf.{key}")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
