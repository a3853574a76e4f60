//! What a path holds, by content.

use crate::h5::{Group, H5File, Node};
use crate::known::Known;
use crate::model::{Input, OpenOptions};
use crate::plain::MARK;
use crate::{h5ad, loom, mtx, tenx_h5, text, unpacked};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a matrix of the Matrix Market begins with.
const MATRIX_MARKET: &[u8] = b"%%MatrixMarket";

const ACCEPTED: &str = "expected an h5ad, h5mu, 10x HDF5 or loom file, a Zarr store of AnnData, an mtx file or a folder \
                        with one (10x, STARsolo, kb-python, Parse, alevin-fry), or a csv, tsv or blank-delimited table";

/// Opens whatever is at `path`: the format is found from the content.
///
/// # Errors
/// `not-found`, `unknown-format` (naming what is accepted), `invalid-argument` where
/// [`OpenOptions::measured`] is not of these cells and genes, or those of [`Input`].
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let known = |input| match options.measured.clone() {
        Some(measured) => Ok(Box::new(Known::new(input, measured)?) as Box<dyn Input>),
        None => Ok(input),
    };
    open_any(path, options).and_then(known).at(path.display())
}

fn open_any(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    if std::fs::metadata(path)?.is_dir() {
        if is_zarr(path) {
            return open_zarr_store(path, options);
        }
        return mtx::open(path, options);
    }
    if hdf5_pure::is_hdf5(path)? {
        return open_hdf5(path, options);
    }
    let begin = beginning(path)?;
    let begin = begin.strip_prefix(MARK).unwrap_or(&begin);
    if begin.starts_with(MATRIX_MARKET) {
        return mtx::open(path, options);
    }
    if begin.starts_with(unpacked::HDF5) {
        return unpacked::open(path, options, |file| open_hdf5(file, options));
    }
    if let Some(what) = needs_a_tool(path, begin) {
        return Err(Error::new(ErrorKind::UnsupportedInput, what));
    }
    match begin {
        [] => Err(unknown("an empty file")),
        b if b.starts_with(b"PK\x03\x04") => open_zarr_store(path, options),
        b if b.contains(&0) => Err(unknown("a binary file of unknown content")),
        _ => text::open(path, options),
    }
}

/// What an input is read from: the files of a data set in Matrix Market form, beside which others may lie,
/// otherwise the file or folder itself.
pub fn files_of(path: &Path, options: &OpenOptions) -> Vec<PathBuf> {
    let is_mtx = match path.is_dir() {
        true => !is_zarr(path),
        false => beginning(path).is_ok_and(|b| b.strip_prefix(MARK).unwrap_or(&b).starts_with(MATRIX_MARKET)),
    };
    let files = if is_mtx { mtx::files_of(path, options) } else { None };
    files.unwrap_or_else(|| vec![path.to_owned()])
}

fn is_zarr(folder: &Path) -> bool {
    [".zgroup", "zarr.json"].iter().any(|name| folder.join(name).exists())
}

/// What a file is that another program has to unpack or export, and how.
fn needs_a_tool(path: &Path, begin: &[u8]) -> Option<String> {
    let packed = |what: &str, tool: &str| format!("{what}; unpack it first: {tool} \"{}\"", path.display());
    let tar = begin.get(257..262) == Some(b"ustar");
    let r = [&b"X\n\0\0\0"[..], b"B\n\x02\0\0\0", b"B\n\x03\0\0\0", b"A\n2\n", b"A\n3\n", b"RDX2\n", b"RDX3\n"];
    match begin {
        _ if tar => Some(packed("a tar archive", "tar -xf")),
        b if b.starts_with(b"BZh") && b.get(4..10) == Some(b"1AY&SY") => {
            Some(packed("a file packed with bzip2", "bunzip2 -k"))
        }
        b if b.starts_with(b"\xfd7zXZ\0") => Some(packed("a file packed with xz", "unxz -k")),
        b if b.starts_with(b"\x28\xb5\x2f\xfd") => Some(packed("a file packed with zstd", "unzstd")),
        b if b.starts_with(b"\xff\xfe") || b.starts_with(b"\xfe\xff") => {
            Some("text in UTF-16; save it as UTF-8".to_owned())
        }
        b if r.iter().any(|magic| b.starts_with(magic)) => Some(
            "an object of R (RDS or RData); export it in R: zellkonverter::writeH5AD(sce, \"x.h5ad\") for a \
             SingleCellExperiment (Seurat: sce <- as.SingleCellExperiment(x)), or \
             DropletUtils::write10xCounts(\"folder\", counts, version = \"3\") for a matrix of counts"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The first bytes of a file, uncompressed.
fn beginning(path: &Path) -> Result<Vec<u8>> {
    let read = |reader: &mut dyn Read| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.take(4096).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(&mut std::fs::File::open(path)?)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    read(&mut flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?))
        .map_err(|e| Error::malformed("damaged gzip data").with_source(e))
}

/// A Zarr store: a folder, or a zip archive of one.
fn open_zarr_store(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    match Group::open_zarr(path)? {
        Some(root) => open_anndata(root, "zarr", options)?.ok_or_else(|| unknown("a Zarr store that is no AnnData")),
        None => Err(unknown("a zip archive")),
    }
}

/// An AnnData, or the modality of a MuData that was asked for; `None` of anything else.
fn open_anndata(root: Group, form: &str, options: &OpenOptions) -> Result<Option<Box<dyn Input>>> {
    if let (Some(Node::Group(modalities)), true) = (root.get("mod")?, is_mudata(&root)?) {
        let names = modalities.names()?;
        let all = || names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        let Some(name) = &options.modality else {
            return Err(Error::invalid(format!(
                "a MuData file with the modalities {}: choose one with --modality (modality=)",
                all()
            )));
        };
        let Some(Node::Group(g)) = modalities.get(name)?.filter(|_| names.contains(name)) else {
            return Err(Error::invalid(format!("no modality \"{name}\"; there are {}", all())));
        };
        let kind = format!("modality {name} of MuData in {form}");
        return h5ad::open(g.into_root(), &kind, options).at(format!("/mod/{name}")).map(Some);
    }
    if root.get("obs")?.is_none() || root.get("var")?.is_none() {
        return Ok(None);
    }
    h5ad::open(root, form, options).map(Some)
}

fn is_mudata(root: &Group) -> Result<bool> {
    let encoding = root.attrs()?;
    Ok(encoding.str("encoding-type") == Some("MuData") || root.get("X")?.is_none())
}

fn open_hdf5(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let file = H5File::open(path)?;
    let root = Group::root(&file);
    if let Some(input) = open_anndata(root.clone(), "h5ad", options)? {
        return Ok(input);
    }
    if let Some(input) = tenx_h5::open(&file, options)? {
        return Ok(input);
    }
    if matches!(root.get("matrix")?, Some(Node::Dataset(_))) && root.get("row_attrs")?.is_some() {
        return loom::open(path, options);
    }
    let names = root.names()?;
    let shown = names.iter().take(8).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    Err(unknown(&format!("an HDF5 file with {shown}, which is no structure of these")))
}

fn unknown(found: &str) -> Error {
    Error::new(ErrorKind::UnknownFormat, format!("{found}; {ACCEPTED}"))
}
