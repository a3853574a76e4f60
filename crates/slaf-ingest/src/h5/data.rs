//! Datasets, and reading ranges of their rows.

use super::attrs::Attrs;
use super::chunks::{Cache, ChunkTable, Filter, Grid, Stored, check_chunks};
use super::elem::{Elem, decode_halves, decode_u64, decode_values};
use super::file::H5File;
use super::limits::{guard, unsupported};
use super::raw::{Message, SHARED, Scan, le};
use super::strings::{Heap, fixed_string, utf32_string};
use super::zarr::ZarrArray;
use hdf5_pure::{ChunkIndex, Datatype, Layout};
use slaf_core::{Context, Dtype, Error, Result, Values};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

/// Storage that was never written reads as the fill value, which costs nothing in the file: more
/// than this many bytes of it are taken for a damaged shape.
const MAX_FILL: u64 = 64 << 20;

/// A dataset of the file.
#[derive(Clone)]
pub(crate) struct Dataset {
    source: Source,
    path: String,
    shape: Vec<u64>,
    elem: Elem,
    /// Shape and element size of the stored records, of which this may be one field.
    stored: Vec<u64>,
    elem_size: u64,
    field: Option<Range<usize>>,
    /// What the fields of one table share.
    records: Option<Arc<Mutex<Records>>>,
    access: OnceLock<Arc<Access>>,
}

#[derive(Clone)]
enum Source {
    Hdf5 { file: Arc<H5File>, inner: Box<hdf5_pure::Dataset>, address: u64 },
    Zarr(Arc<ZarrArray>),
}

/// The records that were read last: the fields of a table are read one after the other.
#[derive(Default)]
struct Records {
    rows: Range<u64>,
    bytes: Arc<Vec<u8>>,
}

/// More bytes of records than this are read again for each field.
const MAX_RECORDS: usize = 64 << 20;

/// How the bytes are reached.
enum Access {
    Contiguous(Arc<H5File>, u64),
    Chunks(Arc<H5File>, ChunkTable),
    /// Through `hdf5-pure`, in windows.
    Library(Box<hdf5_pure::Dataset>),
    Zarr(Arc<ZarrArray>),
}

impl Dataset {
    pub(super) fn new(file: Arc<H5File>, inner: hdf5_pure::Dataset, address: u64, path: String) -> Result<Self> {
        let (shape, datatype) = guard(&path, || Ok((inner.shape()?, inner.datatype()?)))?;
        let elem = Elem::of(&datatype);
        let elem_size = u64::from(datatype.type_size());
        let source = Source::Hdf5 { file, inner: Box::new(inner), address };
        Ok(Dataset {
            source,
            path,
            stored: shape.clone(),
            shape,
            elem,
            elem_size,
            field: None,
            records: None,
            access: OnceLock::new(),
        })
    }

    pub(super) fn zarr(array: Arc<ZarrArray>, path: String) -> Self {
        let (shape, elem, elem_size) = (array.shape().to_vec(), array.elem().clone(), array.elem_size());
        let source = Source::Zarr(array);
        let stored = shape.clone();
        let access = OnceLock::new();
        Dataset { source, path, shape, elem, stored, elem_size, field: None, records: None, access }
    }

    /// The same under another path.
    pub(super) fn at(self, path: String) -> Self {
        Dataset { path, ..self }
    }

    /// The type of the stored elements, as HDF5 describes it; `None` where HDF5 has no such type.
    pub(crate) fn datatype(&self) -> Result<Option<Datatype>> {
        match &self.source {
            Source::Hdf5 { inner, .. } => guard(&self.path, || inner.datatype()).map(Some),
            Source::Zarr(a) => Ok(a.datatype().cloned()),
        }
    }

    /// The fields of a one-dimensional table, as datasets of their own; a field that is an array
    /// has two dimensions.
    pub(crate) fn fields(&self) -> Result<Vec<(String, Dataset)>> {
        let n = self.len()?;
        let Some(Datatype::Compound { members, .. }) = self.datatype()? else {
            return Err(Error::malformed(format!("{} values, not a table", self.elem.name())).at(&self.path));
        };
        let mut fields = Vec::with_capacity(members.len());
        let records = Arc::new(Mutex::new(Records::default()));
        for m in members {
            let (elem, shape) = match &m.datatype {
                Datatype::Array { base_type, dimensions } => {
                    let dims = dimensions.iter().map(|&d| u64::from(d));
                    (Elem::of(base_type), std::iter::once(n).chain(dims).collect())
                }
                other => (Elem::of(other), vec![n]),
            };
            let end = m.byte_offset.checked_add(u64::from(m.datatype.type_size()));
            let end = end.filter(|&e| e <= self.elem_size).ok_or_else(|| {
                Error::malformed(format!("the field \"{}\" is outside of its record", m.name)).at(&self.path)
            })?;
            fields.push((
                m.name.clone(),
                Dataset {
                    path: format!("{}/{}", self.path, m.name),
                    shape,
                    elem,
                    field: Some(m.byte_offset as usize..end as usize),
                    records: Some(records.clone()),
                    ..self.clone()
                },
            ));
        }
        Ok(fields)
    }

    /// The path inside of the file, with a leading slash.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn attrs(&self) -> Result<Attrs> {
        match &self.source {
            Source::Hdf5 { inner, .. } => {
                let (values, types) = guard(&self.path, || Ok((inner.attrs()?, inner.attr_datatypes()?)))?;
                Attrs::new(values, types).at(&self.path)
            }
            Source::Zarr(a) => a.attrs().at(&self.path),
        }
    }

    pub(crate) fn elem(&self) -> &Elem {
        &self.elem
    }

    pub(crate) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The length, if the dataset has one dimension.
    ///
    /// # Errors
    /// `malformed-input` for any other number of dimensions.
    pub(crate) fn len(&self) -> Result<u64> {
        match self.shape[..] {
            [n] => Ok(n),
            _ => Err(Error::malformed(format!("{} dimensions instead of one", self.shape.len())).at(&self.path)),
        }
    }

    /// Checks that there is one dimension of this length.
    pub(crate) fn expect_len(&self, expected: u64) -> Result<()> {
        match self.len()? {
            n if n == expected => Ok(()),
            n => Err(Error::malformed(format!("{n} values instead of {expected}")).at(&self.path)),
        }
    }

    /// The dtype that numbers are read as, and their byte order.
    pub(crate) fn number(&self) -> Result<(Dtype, bool)> {
        match self.elem {
            Elem::Number { dtype, big_endian } => Ok((dtype, big_endian)),
            Elem::Float16 { big_endian } => Ok((Dtype::F32, big_endian)),
            _ => Err(Error::malformed(format!("{} values, not numbers", self.elem.name())).at(&self.path)),
        }
    }

    /// The dtype and byte order of integers.
    pub(crate) fn integer(&self) -> Result<(Dtype, bool)> {
        match self.number()? {
            (d, _) if d.is_float() || d == Dtype::Bool => {
                Err(Error::malformed(format!("{d} values, not integers")).at(&self.path))
            }
            integer => Ok(integer),
        }
    }

    /// Rows of a chunk, or 1 where the storage has no chunks.
    pub(crate) fn chunk_rows(&self) -> u64 {
        let rows = match &self.source {
            Source::Hdf5 { inner, .. } => {
                guard(&self.path, || inner.chunk_shape()).ok().flatten().and_then(|s| s.first().copied())
            }
            Source::Zarr(a) => a.chunk_rows(),
        };
        rows.unwrap_or(1).max(1)
    }

    /// Bytes of one stored row.
    fn row_bytes(&self) -> Result<u64> {
        self.stored.iter().skip(1).try_fold(self.elem_size, |n, &d| n.checked_mul(d)).ok_or_else(|| self.too_large())
    }

    fn too_large(&self) -> Error {
        Error::malformed(format!("shape {:?} is impossible", self.shape)).at(&self.path)
    }

    /// Entries along the first axis; a scalar is one row.
    pub(crate) fn n_rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Checks the storage against the file, once.
    fn access(&self) -> Result<Arc<Access>> {
        if let Some(access) = self.access.get() {
            return Ok(access.clone());
        }
        let access = Arc::new(self.find_access().at(&self.path)?);
        Ok(self.access.get_or_init(|| access).clone())
    }

    fn find_access(&self) -> Result<Access> {
        let (file, inner, address) = match &self.source {
            Source::Hdf5 { file, inner, address } => (file, inner, *address),
            Source::Zarr(a) => {
                a.check_storage()?;
                return Ok(Access::Zarr(a.clone()));
            }
        };
        let total = self.stored_bytes()?;
        let never_written = |bytes: u64| {
            if bytes <= MAX_FILL {
                return Ok(());
            }
            Err(Error::malformed(format!(
                "shape {:?} needs {total} bytes, but {bytes} of them are not in the file",
                self.shape
            )))
        };
        let library = || Access::Library(inner.clone());
        match guard("", || inner.layout())? {
            Layout::Contiguous { address: None, .. } => never_written(total).map(|()| library()),
            Layout::Contiguous { address: Some(address), size } => {
                let end = address.checked_add(total);
                if size < total || end.is_none_or(|end| end > file.raw.len) {
                    return Err(Error::malformed(format!(
                        "shape {:?} needs {total} bytes, but the file has fewer",
                        self.shape
                    )));
                }
                Ok(Access::Contiguous(file.clone(), address))
            }
            Layout::Compact { size } if size >= total => Ok(library()),
            Layout::Chunked { chunk_shape, index } => {
                let scan = Scan { raw: &file.raw, base: file.base };
                let messages = scan
                    .messages(address)
                    .ok_or_else(|| Error::malformed("HDF5: the header of the dataset is damaged"))?;
                let filters = filters(inner)?;
                let grid = Grid::new(&self.stored, &chunk_shape, self.elem_size, None)?;
                let chunks = match index {
                    ChunkIndex::BTreeV2 => indexed_chunks(&scan, &messages, &chunk_shape, grid.chunk_bytes() as u64)?,
                    _ => guard("", || inner.chunks())?
                        .into_iter()
                        .map(|c| Stored {
                            offset: c.offset,
                            address: c.address,
                            size: c.storage_size,
                            mask: c.filter_mask,
                        })
                        .collect(),
                };
                let present = (grid.chunk_bytes() as u64).saturating_mul(chunks.len() as u64);
                never_written(total.saturating_sub(present))?;
                let Some(filters) = filters else {
                    check_chunks(&grid, &chunks, None, file.raw.len)?;
                    return Ok(library());
                };
                let whole_edges = messages
                    .iter()
                    .any(|m| m.kind == 8 && matches!(m.body[..], [4 | 5, 2, flags, ..] if flags & 1 != 0));
                if whole_edges && !filters.is_empty() {
                    return Err(unsupported("chunks at the edge that are stored without the filters"));
                }
                let grid = match (chunks.len() as u64) < grid.len() {
                    true => Grid::new(&self.stored, &chunk_shape, self.elem_size, fill_value(&messages)?)?,
                    false => grid,
                };
                Ok(Access::Chunks(file.clone(), ChunkTable::new(grid, &chunks, filters, file.raw.len)?))
            }
            Layout::Virtual => Err(unsupported("a virtual dataset: its data are in other files")),
            _ => Err(Error::malformed("the storage does not fit the shape")),
        }
    }

    /// A reader of ranges, for one thread.
    pub(crate) fn reader(&self) -> Result<Reader> {
        Ok(Reader { access: self.access()?, dataset: self.clone(), cache: Vec::new() })
    }

    /// Whether an attribute refers to another object of the file.
    pub(crate) fn refers_by_attribute(&self) -> Result<bool> {
        let Source::Hdf5 { inner, .. } = &self.source else { return Ok(false) };
        let types = guard(&self.path, || inner.attr_datatypes())?;
        Ok(types.values().any(|t| matches!(t, Datatype::Reference { .. })))
    }

    /// Whether the dataset has no shape at all, and so not even one value.
    pub(crate) fn is_null(&self) -> Result<bool> {
        let Source::Hdf5 { inner, .. } = &self.source else { return Ok(false) };
        let layout = guard(&self.path, || inner.layout())?;
        Ok(self.shape.is_empty() && matches!(layout, Layout::Contiguous { size: 0, .. }))
    }

    /// Checks the storage against the file.
    pub(crate) fn check_storage(&self) -> Result<()> {
        self.access().map(drop)
    }

    /// Where strings of a variable length are, if the dataset refers to them.
    pub(crate) fn heap(&self) -> Option<Heap<'_>> {
        match &self.source {
            Source::Hdf5 { file, .. } => Some(Heap::new(file)),
            Source::Zarr(_) => None,
        }
    }

    /// Bytes of all that is stored.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        self.row_bytes()?.checked_mul(self.n_rows()).ok_or_else(|| self.too_large())
    }

    /// All numbers.
    pub(crate) fn read_values(&self) -> Result<Values> {
        self.reader()?.values(0..self.n_rows())
    }

    /// All strings.
    pub(crate) fn read_strings(&self) -> Result<Vec<String>> {
        self.reader()?.strings(0..self.n_rows())
    }
}

/// The filters of a dataset, if all are known; `None` for those that only the library decodes.
fn filters(inner: &hdf5_pure::Dataset) -> Result<Option<Vec<Filter>>> {
    let mut own = Some(Vec::new());
    for f in inner.filter_pipeline() {
        let filter = match f.id {
            1 => Some(Filter::Deflate),
            2 => Some(Filter::Shuffle),
            3 => Some(Filter::Fletcher32),
            6 => None,
            32000 => Some(Filter::Lzf),
            32001 => Some(Filter::Blosc),
            32004 => Some(Filter::Lz4),
            32015 => Some(Filter::Zstd),
            id => {
                let name = f.name.unwrap_or_default();
                return Err(unsupported(format!(
                    "compressed by filter {id} ({name}); rewrite the file with gzip, lzf or zstd"
                )));
            }
        };
        match (filter, &mut own) {
            (Some(filter), Some(own)) => own.push(filter),
            _ => own = None,
        }
    }
    Ok(own)
}

/// The chunks of a dataset that can grow in several directions, which the library does not list.
fn indexed_chunks(scan: &Scan<'_>, messages: &[Message], chunk: &[u64], bytes: u64) -> Result<Vec<Stored>> {
    let damaged = || Error::malformed("HDF5: the index of the chunks is damaged");
    let read = || {
        let layout = &messages.iter().find(|m| m.kind == 8)?.body;
        // Behind the sizes of a chunk: the kind of index, its parameters, and where it is.
        let at = 5 + usize::from(*layout.get(3)?) * usize::from(*layout.get(4)?) + 1 + 6;
        let address = le(layout, at, 8)?;
        if address == u64::MAX {
            return Some(Vec::new());
        }
        let (kind, records) = scan.records(address.checked_add(scan.base)?)?;
        let one = |r: &Vec<u8>| {
            let offsets = r.len().checked_sub(8 * chunk.len())?;
            let offset = chunk.iter().enumerate().map(|(i, c)| le(r, offsets + 8 * i, 8)?.checked_mul(*c));
            let (size, mask) = match kind {
                10 => (bytes, 0),
                11 => (le(r, 8, offsets.checked_sub(12)?)?, le(r, offsets - 4, 4)? as u32),
                _ => return None,
            };
            let address = le(r, 0, 8)?.checked_add(scan.base)?;
            Some(Stored { offset: offset.collect::<Option<_>>()?, address, size, mask })
        };
        records.iter().map(one).collect()
    };
    read().ok_or_else(damaged)
}

/// The value of elements that were never written; `None` is zero.
fn fill_value(messages: &[Message]) -> Result<Option<Vec<u8>>> {
    /// The program that wrote the dataset asked for no fill value at all.
    const NEVER: u8 = 1;
    let damaged = || Error::malformed("HDF5: the fill value is damaged");
    let newest = messages.iter().filter(|m| matches!(m.kind & !SHARED, 4 | 5)).max_by_key(|m| m.kind);
    let Some(Message { kind, body: m, .. }) = newest else { return Ok(None) };
    let sized = |at: usize| {
        let len = le(m, at, 4).ok_or_else(damaged)? as usize;
        let value = m.get(at + 4..at + 4 + len).ok_or_else(damaged)?;
        Ok((len > 0).then(|| value.to_vec()))
    };
    match (kind, m.as_slice()) {
        (4, _) => sized(0),
        (5, [1 | 2, _, NEVER, ..]) => Ok(None),
        (5, [2, _, _, 0, ..]) => Ok(None),
        (5, [1 | 2, ..]) => sized(4),
        (5, [3, flags, ..]) if flags & 0x20 == 0 || flags >> 2 & 3 == NEVER => Ok(None),
        (5, [3, ..]) => sized(2),
        (5, _) => Err(damaged()),
        _ => Err(unsupported("a fill value that is shared by datasets")),
    }
}

/// Reads ranges of rows; keeps the chunks that the next range will need.
pub(crate) struct Reader {
    dataset: Dataset,
    access: Arc<Access>,
    cache: Cache,
}

impl Reader {
    pub(crate) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The bytes of some rows.
    pub(crate) fn bytes(&mut self, rows: Range<u64>) -> Result<Vec<u8>> {
        let d = &self.dataset;
        let row_bytes = d.row_bytes()?;
        if rows.end > d.n_rows() || rows.start > rows.end {
            return Err(Error::malformed(format!("rows {}..{} of {}", rows.start, rows.end, d.n_rows())).at(&d.path));
        }
        let n_rows = rows.end - rows.start;
        let len = n_rows.checked_mul(row_bytes).ok_or_else(|| d.too_large())?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let Some(field) = &d.field else { return self.stored_bytes(rows, len) };
        let field = field.clone();
        let bytes = self.records(rows, len)?;
        let records = bytes.chunks_exact(row_bytes as usize);
        Ok(records.flat_map(|r| &r[field.clone()]).copied().collect())
    }

    /// The records that hold some rows of a field.
    fn records(&mut self, rows: Range<u64>, len: u64) -> Result<Arc<Vec<u8>>> {
        let shared = self.dataset.records.clone();
        let last = || shared.as_ref().and_then(|r| r.lock().ok());
        if let Some(last) = last()
            && last.rows == rows
        {
            return Ok(last.bytes.clone());
        }
        let bytes = Arc::new(self.stored_bytes(rows.clone(), len)?);
        if bytes.len() <= MAX_RECORDS
            && let Some(mut last) = last()
        {
            *last = Records { rows, bytes: bytes.clone() };
        }
        Ok(bytes)
    }

    fn stored_bytes(&mut self, rows: Range<u64>, len: u64) -> Result<Vec<u8>> {
        let d = &self.dataset;
        let row_bytes = d.row_bytes()?;
        let bytes = match &*self.access {
            Access::Contiguous(file, address) => file.raw.read_vec(address + rows.start * row_bytes, len).at(&d.path)?,
            Access::Chunks(file, table) => table.read(&file.raw, rows.clone(), &mut self.cache).at(&d.path)?,
            Access::Library(inner) => guard(&d.path, || inner.read_raw_rows(rows.start, rows.end - rows.start))?,
            Access::Zarr(array) => array.read(rows.clone(), &mut self.cache).at(&d.path)?,
        };
        if bytes.len() as u64 != len {
            return Err(Error::malformed("the storage does not fit the shape").at(&d.path));
        }
        Ok(bytes)
    }

    /// Some rows of numbers, row-major.
    pub(crate) fn values(&mut self, rows: Range<u64>) -> Result<Values> {
        let (dtype, big) = self.dataset.number()?;
        let first = rows.start;
        let bytes = self.bytes(rows)?;
        let d = &self.dataset;
        if matches!(d.elem, Elem::Float16 { .. }) {
            return Ok(Values::F32(decode_halves(&bytes, big).map(f32::from).collect()));
        }
        // What R or C kept there as a missing value would be read as true.
        if dtype == Dtype::Bool
            && let Some(i) = bytes.iter().position(|&b| b > 1)
        {
            let width = d.shape.iter().skip(1).product::<u64>().max(1);
            let row = first + i as u64 / width;
            return Err(Error::malformed(format!("{} is neither FALSE nor TRUE", bytes[i]))
                .at(format!("{}, row {row}", d.path)));
        }
        Ok(decode_values(&bytes, dtype, big))
    }

    /// Some rows of R's logicals; `None` is NA.
    pub(crate) fn logicals(&mut self, rows: Range<u64>) -> Result<Vec<Option<bool>>> {
        let first = rows.start;
        let bytes = self.bytes(rows)?;
        let d = &self.dataset;
        let Elem::Logical { size, members } = &d.elem else {
            return Err(Error::malformed(format!("{} values, not logicals", d.elem.name())).at(&d.path));
        };
        let one = |(i, value): (usize, &[u8])| {
            let found = members.iter().find(|m| m.0 == value).map(|m| m.1);
            found.ok_or_else(|| {
                Error::malformed("neither FALSE nor TRUE nor NA").at(format!("{}, row {}", d.path, first + i as u64))
            })
        };
        bytes.chunks_exact((*size).max(1)).enumerate().map(one).collect()
    }

    /// Some non-negative integers.
    pub(crate) fn u64s(&mut self, rows: Range<u64>) -> Result<Vec<u64>> {
        let (dtype, big) = self.dataset.integer()?;
        decode_u64(&self.bytes(rows)?, dtype, big).at(&self.dataset.path)
    }

    /// Some strings.
    pub(crate) fn strings(&mut self, rows: Range<u64>) -> Result<Vec<String>> {
        let first = rows.start;
        if let (Access::Zarr(array), Elem::VlenString) = (&*self.access, &self.dataset.elem) {
            return array.strings(rows).at(&self.dataset.path);
        }
        let bytes = self.bytes(rows)?;
        let d = &self.dataset;
        let place = |i: usize| format!("{}, row {}", d.path, first + i as u64);
        match (&d.elem, &d.source) {
            (Elem::VlenString, Source::Hdf5 { file, .. }) => {
                let mut heap = Heap::new(file);
                let (references, _) = bytes.as_chunks::<16>();
                let one = |(i, r)| heap.string(r).map(str::to_owned).map_err(|e| e.at(place(i)));
                references.iter().enumerate().map(one).collect()
            }
            (Elem::Utf32 { size, big_endian }, _) => {
                let one = |(i, slot)| utf32_string(slot, *big_endian).map_err(|e| e.at(place(i)));
                bytes.chunks_exact((*size).max(1)).enumerate().map(one).collect()
            }
            (Elem::FixedString { size, padding }, _) => {
                let one = |(i, slot)| fixed_string(slot, padding).map(str::to_owned).map_err(|e| e.at(place(i)));
                bytes.chunks_exact((*size).max(1)).enumerate().map(one).collect()
            }
            _ => Err(Error::malformed(format!("{} values, not strings", d.elem.name())).at(&d.path)),
        }
    }
}
