//! HDF5 files that are packed with gzip: HDF5 needs random access, so they are unpacked first, into
//! a temporary folder that lives as long as the input.

use crate::model::{ArrayKey, Description, Frame, Input, MatrixKey, OpenOptions, RowStream, StreamOptions};
use crate::temporary::TemporaryFolder;
use flate2::read::MultiGzDecoder;
use slaf_core::{Context, Error, Result, Values};
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

/// What an HDF5 file begins with.
pub(crate) const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Whether a file is an HDF5 file that is packed with gzip.
pub fn is_packed_hdf5(path: &Path) -> bool {
    let mut begin = [0; HDF5.len()];
    let read = File::open(path).and_then(|file| MultiGzDecoder::new(file).read_exact(&mut begin));
    read.is_ok() && begin == HDF5
}

/// Unpacks a file and opens what is in it.
///
/// # Errors
/// `malformed-input` for damage; those of writing to the temporary folder, which name it; those of
/// `open`.
pub(crate) fn open(
    path: &Path,
    options: &OpenOptions,
    open: impl FnOnce(&Path) -> Result<Box<dyn Input>>,
) -> Result<Box<dyn Input>> {
    let folder = TemporaryFolder::new_in(&options.temp_dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let unpacked = folder.path().join("unpacked.h5");
    let mut packed = MultiGzDecoder::new(BufReader::new(File::open(path)?));
    let mut file = File::create_new(&unpacked).at(unpacked.display())?;
    copy(&mut packed, &mut file, &unpacked)?;
    let input = open(&unpacked).map_err(|e| without_place(e, &unpacked))?;
    let format = format!("{}, packed with gzip", input.description().format);
    Ok(Box::new(Unpacked {
        description: Description { format, ..input.description().clone() },
        input,
        _folder: folder,
    }))
}

/// Errors of reading are those of the packed file, errors of writing those of the unpacked one.
fn copy(from: &mut impl Read, to: &mut File, unpacked: &Path) -> Result<()> {
    let mut part = vec![0; 1 << 20];
    loop {
        let n = match from.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::malformed("damaged gzip data").with_source(e)),
        };
        std::io::Write::write_all(to, &part[..n]).at(unpacked.display())?;
    }
}

/// The user knows the packed file, which whoever opened it names.
fn without_place(error: Error, unpacked: &Path) -> Error {
    let place = error.location().map(str::to_owned);
    let inside = place.and_then(|place| Some(place.strip_prefix(&unpacked.display().to_string())?.to_owned()));
    match inside {
        Some(inside) => {
            let bare = Error::new(error.kind(), error.message().to_owned()).with_source(error);
            let inside = inside.trim_start_matches([':', ' ']);
            if inside.is_empty() { bare } else { bare.at(inside) }
        }
        None => error,
    }
}

struct Unpacked {
    description: Description,
    // Before the folder: its file is closed first.
    input: Box<dyn Input>,
    _folder: TemporaryFolder,
}

impl Input for Unpacked {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.input.obs(rows)
    }

    fn var(&self) -> Result<Frame> {
        self.input.var()
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.input.raw_var()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.input.matrix(key, options)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        self.input.column_counts(key)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        self.input.array(key, rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        self.input.write_extras(target)
    }
}
