//! What lies over an object store, as Lance takes it.

use crate::blocks::Blocks;
use crate::cached::Cached;
use crate::layer::{Layer, Layered};
use lance::io::WrappingObjectStore;
use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use std::sync::Arc;

/// Layers as Lance takes them, the innermost first, and blocks that spare requests above them.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) layers: Vec<Arc<dyn Layer>>,
    pub(crate) blocks: Option<Arc<Blocks>>,
}

impl WrappingObjectStore for Layers {
    fn wrap(&self, _store_prefix: &str, original: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        let over = |inner, layer: &Arc<dyn Layer>| -> Arc<dyn ObjectStore> {
            Arc::new(Layered { inner, layer: layer.clone() })
        };
        let inner = self.layers.iter().fold(original, over);
        match &self.blocks {
            Some(blocks) => Arc::new(Cached { inner, blocks: blocks.clone() }),
            None => inner,
        }
    }

    /// Listings go through the layers.
    fn wrap_paginated(
        &self,
        _store_prefix: &str,
        _original: Arc<dyn PaginatedListStore>,
    ) -> Option<Arc<dyn PaginatedListStore>> {
        None
    }
}
