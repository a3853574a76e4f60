//! Layers over object stores: every request passes through [`Layer::around`], whoever makes it,
//! SLAF or Lance.

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bytes of an object, all or some.
    Get,
    /// Whether there is an object, and how long it is.
    Head,
    /// A whole object.
    Put,
    /// A part of a large object; its beginning and its end are others.
    PutPart,
    /// The beginning of a large object.
    BeginParts,
    /// The end of a large object, which makes it appear.
    CompleteParts,
    /// The parts of a large object are given up.
    AbortParts,
    /// The objects below a path.
    List,
    /// An object goes.
    Delete,
    /// An object appears under a second path.
    Copy,
    /// An object changes its path.
    Rename,
}

impl Operation {
    /// Whether it changes what the store holds.
    pub fn writes(self) -> bool {
        !matches!(self, Operation::Get | Operation::Head | Operation::List)
    }
}

/// A request, or one more part of the answer to it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for.
    pub operation: Operation,
    /// The object's path in its bucket or memory.
    pub path: Path,
    /// Whether this waits for more of a body or a listing that has begun.
    pub continued: bool,
    /// Bytes that it sends.
    pub sent: usize,
}

/// What is done around each request.
#[async_trait]
pub trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Carries out a request by awaiting `run`, or fails it before, instead, or after.
    async fn around(&self, request: &Request, run: BoxFuture<'_, Result<()>>) -> Result<()>;

    /// A part of a body that was read, as the caller gets it.
    fn received(&self, _request: &Request, part: Bytes) -> Bytes {
        part
    }
}

/// A store under a layer.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) layer: Arc<dyn Layer>,
}

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn request(operation: Operation, path: &Path) -> Request {
    Request { operation, path: path.clone(), continued: false, sent: 0 }
}

async fn call<T: Send>(
    layer: &dyn Layer,
    request: &Request,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    let mut answer = None;
    let run = async {
        answer = Some(work.await?);
        Ok(())
    };
    layer.around(request, run.boxed()).await?;
    answer.ok_or_else(|| Error::Generic { store: "layer", source: "a request was not carried out".into() })
}

/// The items of an answer, each awaited under the layer.
fn continued<T: Send + 'static>(
    layer: &Arc<dyn Layer>,
    request: Request,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let state = (layer.clone(), request, Some(items));
    let next = async |(layer, mut request, items): (Arc<dyn Layer>, Request, Option<BoxStream<'static, Result<T>>>)| {
        let mut items = items?;
        let item = call(&*layer, &request, async { items.next().await.transpose() }).await;
        request.continued = true;
        match item {
            Ok(None) => None,
            Ok(Some(item)) => Some((Ok(item), (layer, request, Some(items)))),
            Err(e) => Some((Err(e), (layer, request, None))),
        }
    };
    // Who reads a whole body asks once more after its end.
    stream::unfold(state, next).fuse().boxed()
}

#[async_trait]
impl ObjectStore for Layered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let request = Request { sent: payload.content_length(), ..request(Operation::Put, location) };
        call(&*self.layer, &request, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = request(Operation::BeginParts, location);
        let inner = call(&*self.layer, &begin, self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(Upload { inner, layer: self.layer.clone(), path: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let request = request(operation, location);
        let result = call(&*self.layer, &request, self.inner.get_opts(location, options)).await?;
        if operation == Operation::Head {
            return Ok(result);
        }
        let GetResult { meta, range, attributes, extensions, .. } = &result;
        let parts = (meta.clone(), range.clone(), attributes.clone(), extensions.clone());
        let rest = Request { continued: true, ..request.clone() };
        let layer = self.layer.clone();
        let body = continued(&self.layer, rest, result.into_stream());
        let body = body.map_ok(move |part| layer.received(&request, part)).boxed();
        let (meta, range, attributes, extensions) = parts;
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (layer, inner) = (self.layer.clone(), self.inner.clone());
        let delete = move |location: Result<Path>| {
            let (layer, inner) = (layer.clone(), inner.clone());
            async move {
                let location = location?;
                call(&*layer, &request(Operation::Delete, &location), inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let list = request(Operation::List, &prefix.cloned().unwrap_or_default());
        continued(&self.layer, list, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let list = request(Operation::List, &prefix.cloned().unwrap_or_default());
        continued(&self.layer, list, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let list = request(Operation::List, &prefix.cloned().unwrap_or_default());
        call(&*self.layer, &list, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        call(&*self.layer, &request(Operation::Copy, to), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        call(&*self.layer, &request(Operation::Rename, to), self.inner.rename_opts(from, to, options)).await
    }
}

/// A large object on its way.
#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    layer: Arc<dyn Layer>,
    path: Path,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let request = Request { sent: data.content_length(), ..request(Operation::PutPart, &self.path) };
        let (layer, part) = (self.layer.clone(), self.inner.put_part(data));
        async move { call(&*layer, &request, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        call(&*self.layer, &request(Operation::CompleteParts, &self.path), self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        call(&*self.layer, &request(Operation::AbortParts, &self.path), self.inner.abort()).await
    }
}
