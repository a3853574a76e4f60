//! Datasets, and reading ranges of their rows.

use super::chunks::{ChunkTable, Filter};
use super::elem::{Elem, decode_u64, decode_values};
use super::strings::{Heap, fixed_string};
use super::{Attrs, H5File, guard, unsupported};
use hdf5_pure::Layout;
use slaf_core::{Context, Dtype, Error, Result, Values};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

/// Storage that was never written reads as the fill value, which costs nothing in the file: more
/// than this many bytes of it are taken for a damaged shape.
const MAX_FILL: u64 = 64 << 20;

/// A dataset of the file.
#[derive(Clone)]
pub(crate) struct Dataset {
    file: Arc<H5File>,
    inner: hdf5_pure::Dataset,
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
    Contiguous(u64),
    Chunks(ChunkTable),
    /// Through `hdf5-pure`, in windows.
    Library,
}

impl Dataset {
    pub(super) fn new(file: Arc<H5File>, inner: hdf5_pure::Dataset, path: String) -> Result<Self> {
        let (shape, datatype) = guard(&path, || Ok((inner.shape()?, inner.datatype()?)))?;
        let elem = Elem::of(&datatype);
        let elem_size = u64::from(datatype.type_size());
        let stored = shape.clone();
        let access = OnceLock::new();
        Ok(Dataset { file, inner, path, shape, elem, stored, elem_size, field: None, records: None, access })
    }

    /// The fields of a one-dimensional table, as datasets of their own; a field that is an array
    /// has two dimensions.
    pub(crate) fn fields(&self) -> Result<Vec<(String, Dataset)>> {
        let n = self.len()?;
        let datatype = guard(&self.path, || self.inner.datatype())?;
        let hdf5_pure::Datatype::Compound { members, .. } = datatype else {
            return Err(Error::malformed(format!("{} values, not a table", self.elem.name())).at(&self.path));
        };
        let mut fields = Vec::with_capacity(members.len());
        let records = Arc::new(Mutex::new(Records::default()));
        for m in members {
            let (elem, shape) = match &m.datatype {
                hdf5_pure::Datatype::Array { base_type, dimensions } => {
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
        let (values, types) = guard(&self.path, || Ok((self.inner.attrs()?, self.inner.attr_datatypes()?)))?;
        Attrs::new(values, &types).at(&self.path)
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

    /// The dtype and byte order of numbers.
    pub(crate) fn number(&self) -> Result<(Dtype, bool)> {
        match self.elem {
            Elem::Number { dtype, big_endian } => Ok((dtype, big_endian)),
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
        let shape = guard(&self.path, || self.inner.chunk_shape()).ok().flatten();
        shape.and_then(|s| s.first().copied()).unwrap_or(1).max(1)
    }

    /// Bytes of one stored row.
    fn row_bytes(&self) -> Result<u64> {
        self.stored.iter().skip(1).try_fold(self.elem_size, |n, &d| n.checked_mul(d)).ok_or_else(|| self.too_large())
    }

    fn too_large(&self) -> Error {
        Error::malformed(format!("shape {:?} is impossible", self.shape)).at(&self.path)
    }

    fn n_rows(&self) -> u64 {
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
        let total = self.row_bytes()?.checked_mul(self.n_rows()).ok_or_else(|| self.too_large())?;
        let never_written = |bytes: u64| {
            if bytes <= MAX_FILL {
                return Ok(Access::Library);
            }
            Err(Error::malformed(format!(
                "shape {:?} needs {total} bytes, but {bytes} of them are not in the file",
                self.shape
            )))
        };
        match guard("", || self.inner.layout())? {
            Layout::Contiguous { address: None, .. } => never_written(total),
            Layout::Contiguous { address: Some(address), size } => {
                let end = address.checked_add(total);
                if size < total || end.is_none_or(|end| end > self.file.len) {
                    return Err(Error::malformed(format!(
                        "shape {:?} needs {total} bytes, but the file has fewer",
                        self.shape
                    )));
                }
                Ok(Access::Contiguous(address))
            }
            Layout::Compact { size } if size >= total => Ok(Access::Library),
            Layout::Chunked { chunk_shape, .. } => {
                let filters = self.filters()?;
                let chunks = guard("", || self.inner.chunks())?;
                let table =
                    ChunkTable::new(&self.stored, &chunk_shape, self.elem_size, &chunks, filters, self.file.len)?;
                match table {
                    (Some(table), _) => Ok(Access::Chunks(table)),
                    (None, present) => never_written(total.saturating_sub(present)),
                }
            }
            Layout::Virtual => Err(unsupported("a virtual dataset: its data are in other files")),
            _ => Err(Error::malformed("the storage does not fit the shape")),
        }
    }

    /// The filters, if all are known; `None` for those that only the library decodes.
    fn filters(&self) -> Result<Option<Vec<Filter>>> {
        let mut own = Some(Vec::new());
        for f in self.inner.filter_pipeline() {
            let filter = match f.id {
                1 => Some(Filter::Deflate),
                2 => Some(Filter::Shuffle),
                3 => Some(Filter::Fletcher32),
                6 => None,
                32000 => Some(Filter::Lzf),
                id => {
                    let name = f.name.unwrap_or_default();
                    return Err(unsupported(format!(
                        "compressed by filter {id} ({name}); rewrite the file with gzip or lzf"
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

    /// A reader of ranges, for one thread.
    pub(crate) fn reader(&self) -> Result<Reader> {
        Ok(Reader { access: self.access()?, dataset: self.clone(), cache: Vec::new() })
    }

    /// Whether an attribute refers to another object of the file.
    pub(crate) fn refers_by_attribute(&self) -> Result<bool> {
        let types = guard(&self.path, || self.inner.attr_datatypes())?;
        Ok(types.values().any(|t| matches!(t, hdf5_pure::Datatype::Reference { .. })))
    }

    /// Whether the dataset has no shape at all, and so not even one value.
    pub(crate) fn is_null(&self) -> Result<bool> {
        let layout = guard(&self.path, || self.inner.layout())?;
        Ok(self.shape.is_empty() && matches!(layout, Layout::Contiguous { size: 0, .. }))
    }

    /// Checks the storage against the file.
    pub(crate) fn check_storage(&self) -> Result<()> {
        self.access().map(drop)
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

/// Reads ranges of rows; keeps the chunks that the next range will need.
pub(crate) struct Reader {
    dataset: Dataset,
    access: Arc<Access>,
    cache: Vec<(usize, Vec<u8>)>,
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
        let bytes = match &*self.access {
            Access::Contiguous(address) => d.file.read_vec(address + rows.start * d.row_bytes()?, len).at(&d.path)?,
            Access::Chunks(table) => table.read(&d.file, rows.clone(), &mut self.cache).at(&d.path)?,
            Access::Library => guard(&d.path, || d.inner.read_raw_rows(rows.start, rows.end - rows.start))?,
        };
        if bytes.len() as u64 != len {
            return Err(Error::malformed("the storage does not fit the shape").at(&d.path));
        }
        Ok(bytes)
    }

    /// Some rows of numbers, row-major.
    pub(crate) fn values(&mut self, rows: Range<u64>) -> Result<Values> {
        let (dtype, big) = self.dataset.number()?;
        Ok(decode_values(&self.bytes(rows)?, dtype, big))
    }

    /// Some non-negative integers.
    pub(crate) fn u64s(&mut self, rows: Range<u64>) -> Result<Vec<u64>> {
        let (dtype, big) = self.dataset.integer()?;
        decode_u64(&self.bytes(rows)?, dtype, big).at(&self.dataset.path)
    }

    /// Some strings.
    pub(crate) fn strings(&mut self, rows: Range<u64>) -> Result<Vec<String>> {
        let first = rows.start;
        let bytes = self.bytes(rows)?;
        let d = &self.dataset;
        let place = |i: usize| format!("{}, row {}", d.path, first + i as u64);
        match &d.elem {
            Elem::VlenString => {
                let mut heap = Heap::new(&d.file);
                let (references, _) = bytes.as_chunks::<16>();
                let one = |(i, r)| heap.string(r).map(str::to_owned).map_err(|e| e.at(place(i)));
                references.iter().enumerate().map(one).collect()
            }
            Elem::FixedString { size, padding } => {
                let one = |(i, slot)| fixed_string(slot, padding).map(str::to_owned).map_err(|e| e.at(place(i)));
                bytes.chunks_exact((*size).max(1)).enumerate().map(one).collect()
            }
            _ => Err(Error::malformed(format!("{} values, not strings", d.elem.name())).at(&d.path)),
        }
    }
}
