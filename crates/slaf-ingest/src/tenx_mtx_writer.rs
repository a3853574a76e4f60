//! Writing of folders as Cell Ranger 3 makes them.

use crate::h5ad_writer::sync_folder;
use crate::output::exists;
use crate::temporary::{TemporaryFolder, folder_of};
use flate2::Compression;
use flate2::write::GzEncoder;
use slaf_core::{Context, CsrChunk, Error, Result, Values, with_values};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A row of `features.tsv.gz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The first column, such as an Ensembl id.
    pub id: String,
    /// The second column.
    pub symbol: String,
    /// `Gene Expression` for genes.
    pub feature_type: String,
}

/// Writes `matrix.mtx.gz` (genes x cells), `features.tsv.gz` and `barcodes.tsv.gz` into a new
/// folder, from chunks of rows of the matrix cells x genes. `nnz` must be right: the header of
/// the file comes first. Whole numbers give an `integer` file, floats a `real` one.
///
/// The folder grows under a temporary name beside `folder` and is renamed at the end.
///
/// # Errors
/// `already-exists`, also if something comes to the path meanwhile; `invalid-argument` for names with tabs or line ends; `malformed-input` when
/// the chunks do not fit the numbers; those of the chunks and of writing. Nothing is left then.
pub fn write_10x_mtx<B: AsRef<str>>(
    folder: &Path,
    barcodes: impl IntoIterator<Item = Result<B>>,
    features: impl IntoIterator<Item = Result<Feature>>,
    shape: (u64, u64),
    nnz: u64,
    integer: bool,
    chunks: impl IntoIterator<Item = Result<CsrChunk>>,
) -> Result<()> {
    if folder.symlink_metadata().is_ok() {
        return Err(exists(folder));
    }
    let parent = folder_of(folder);
    let temporary = TemporaryFolder::beside(folder)?;
    let (n_cells, n_genes) = shape;
    let names = barcodes.into_iter().map(|b| b.and_then(|b| checked(b.as_ref())));
    write_lines(&temporary.path().join(FILES[0]), n_cells, names)?;
    let lines = features.into_iter().map(|f| {
        let f = f?;
        Ok(format!("{}\t{}\t{}", checked(&f.id)?, checked(&f.symbol)?, checked(&f.feature_type)?))
    });
    write_lines(&temporary.path().join(FILES[1]), n_genes, lines)?;
    let mut out = Packed::create(&temporary.path().join(FILES[2]))?;
    let kind = if integer { "integer" } else { "real" };
    writeln!(out.0, "%%MatrixMarket matrix coordinate {kind} general")?;
    writeln!(out.0, "%metadata_json: {{\"software_version\": \"slaf\", \"format_version\": 2}}")?;
    writeln!(out.0, "{n_genes} {n_cells} {nnz}")?;
    let (mut cell, mut found) = (0, 0);
    for chunk in chunks {
        let chunk = chunk?;
        chunk.validate(n_genes, cell)?;
        if integer && chunk.values.dtype().is_float() {
            check_whole(&chunk.values)?;
        }
        with_values!(&chunk.values, v => write_chunk(&mut out.0, &chunk, v, cell)?);
        cell += chunk.n_rows() as u64;
        found += chunk.nnz() as u64;
    }
    if cell != n_cells || found != nnz {
        return Err(Error::malformed(format!(
            "{cell} cells with {found} values came for {n_cells} cells and {nnz} values"
        )));
    }
    out.finish()?;
    sync_folder(temporary.path())?;
    temporary.persist(folder).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(folder),
        _ => Error::from(e).at(folder.display()),
    })?;
    sync_folder(parent)
}

const FILES: [&str; 3] = ["barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"];

/// Writes the lines of one cell after the other.
fn write_chunk<T: Shown>(out: &mut impl Write, chunk: &CsrChunk, values: &[T], first: u64) -> Result<()> {
    for i in 0..chunk.n_rows() {
        let cell = first + i as u64 + 1;
        for j in chunk.row(i) {
            writeln!(out, "{} {cell} {}", u64::from(chunk.indices[j]) + 1, values[j].shown())?;
        }
    }
    Ok(())
}

/// A value as the format writes it.
trait Shown {
    fn shown(&self) -> impl Display;
}

macro_rules! shown {
    ($($t:ty),*) => {$(
        impl Shown for $t {
            fn shown(&self) -> impl Display { self }
        }
    )*};
}
shown!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Shown for bool {
    fn shown(&self) -> impl Display {
        u8::from(*self)
    }
}

/// Refuses floats that are no whole numbers.
fn check_whole(values: &Values) -> Result<()> {
    let odd = match values {
        Values::F32(v) => v.iter().copied().map(f64::from).find(|v| v.fract() != 0.0),
        Values::F64(v) => v.iter().copied().find(|v| v.fract() != 0.0),
        _ => None,
    };
    match odd {
        Some(v) => Err(Error::malformed(format!("{v} in a matrix of integers"))),
        None => Ok(()),
    }
}

/// Refuses a name that would break the table.
fn checked(name: &str) -> Result<String> {
    if name.contains(['\t', '\n', '\r']) {
        return Err(Error::invalid(format!("{name:?} has a tab or a line end, which a tsv file cannot hold")));
    }
    Ok(name.to_owned())
}

fn write_lines(path: &Path, expected: u64, lines: impl Iterator<Item = Result<String>>) -> Result<()> {
    let mut out = Packed::create(path)?;
    let mut n = 0;
    for line in lines {
        writeln!(out.0, "{}", line?)?;
        n += 1;
    }
    if n != expected {
        return Err(Error::malformed(format!("{n} names came for an axis of {expected}")));
    }
    out.finish()
}

/// A gzip file under construction.
struct Packed(BufWriter<GzEncoder<File>>);

impl Packed {
    fn create(path: &Path) -> Result<Packed> {
        let file = File::create(path).at(path.display())?;
        Ok(Packed(BufWriter::with_capacity(64 << 10, GzEncoder::new(file, Compression::fast()))))
    }

    fn finish(self) -> Result<()> {
        let encoder = self.0.into_inner().map_err(|e| Error::from(e.into_error()))?;
        Ok(encoder.finish()?.sync_all()?)
    }
}
