//! An object store whose unchanging files are read by way of [`Blocks`].

use crate::blocks::Blocks;
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A store that answers from blocks where it can.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) blocks: Arc<Blocks>,
}

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A part of an unchanging file; `None` for a request that is for the store to answer.
fn part(options: &GetOptions, length: u64) -> Option<Range<u64>> {
    let has_condition = options.if_match.is_some()
        || options.if_none_match.is_some()
        || options.if_modified_since.is_some()
        || options.if_unmodified_since.is_some()
        || options.version.is_some();
    if has_condition {
        return None;
    }
    Some(match options.range.as_ref() {
        // Lance reads small files so.
        None => 0..length,
        Some(GetRange::Bounded(range)) => range.start..range.end.min(length),
        Some(GetRange::Offset(from)) => *from..length,
        Some(GetRange::Suffix(n)) => length.saturating_sub(*n)..length,
    })
}

#[async_trait]
impl ObjectStore for Cached {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(size) = self.blocks.length(location) else { return self.inner.get_opts(location, options).await };
        // When it was written is of no interest to who reads it through here.
        let meta = || ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let answer = |body, range| GetResult {
            payload: GetResultPayload::Stream(body),
            meta: meta(),
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        };
        if options.head && options.range.is_none() {
            return Ok(answer(stream::empty().boxed(), 0..size));
        }
        if let Some(range) = part(&options, size)
            && let Some(bytes) = self.blocks.read(&*self.inner, location, range.clone()).boxed().await?
        {
            return Ok(answer(stream::once(async { Ok(bytes) }).boxed(), range));
        }
        self.inner.get_opts(location, options).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
