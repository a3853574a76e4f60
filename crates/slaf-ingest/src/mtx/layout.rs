//! Which files make up a data set in Matrix Market form: by their names, program by program.

use crate::model::MatrixKey;
use crate::plain::name_of;
use slaf_core::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// How deep the folder of the matrix may lie below the one that was given.
const DEPTH: usize = 3;
/// The matrices of STARsolo's folder Velocyto.
const VELOCYTO: [&str; 3] = ["spliced", "unspliced", "ambiguous"];

/// What describes the genes.
pub(super) enum Genes {
    /// 10x: id, name, type and more, without a header.
    Features(PathBuf),
    /// kb-python: a line for each gene, and in another file a line for each name.
    Lines { ids: PathBuf, names: Option<PathBuf> },
    /// Parse: a table with a header.
    Table(PathBuf),
    /// alevin-fry: a line for each column, of which a gene may have three.
    Fry(PathBuf),
}

impl Genes {
    pub(super) fn path(&self) -> &Path {
        match self {
            Genes::Features(path) | Genes::Lines { ids: path, .. } | Genes::Table(path) | Genes::Fry(path) => path,
        }
    }
}

/// What describes the cells.
pub(super) enum Cells {
    /// A line for each cell, without a header.
    Barcodes(PathBuf),
    /// Parse: a table with a header.
    Table(PathBuf),
}

impl Cells {
    pub(super) fn path(&self) -> &Path {
        match self {
            Cells::Barcodes(path) | Cells::Table(path) => path,
        }
    }
}

/// The files of a data set.
pub(super) struct Layout {
    pub(super) program: &'static str,
    pub(super) matrices: Vec<(MatrixKey, PathBuf)>,
    pub(super) genes: Genes,
    pub(super) cells: Cells,
    /// What the program writes; a matrix that can only be the other way round is read so.
    pub(super) cells_in_rows: bool,
    pub(super) notes: Vec<String>,
}

impl Layout {
    /// The files of a folder, or those that belong to a matrix.
    pub(super) fn find(path: &Path, genome: Option<&str>) -> Result<Layout> {
        let mut layout = if path.is_dir() { in_folder(path, genome, DEPTH)? } else { beside(path)? };
        let Some((genome, folder)) = genome.zip(layout.matrices.first().and_then(|(_, m)| m.parent())) else {
            return Ok(layout);
        };
        if folder.ancestors().any(|f| name_of(f) == genome) {
            return Ok(layout);
        }
        if path.is_dir() && folder != path {
            return Err(Error::invalid(format!("no folder \"{genome}\"; the matrix is in \"{}\"", name_of(folder))));
        }
        layout.notes.push(format!("genome \"{genome}\" is not used: the folder has one set of genes"));
        Ok(layout)
    }

    /// All of them.
    pub(super) fn files(self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.matrices.into_iter().map(|(_, matrix)| matrix).collect();
        match self.genes {
            Genes::Features(path) | Genes::Table(path) | Genes::Fry(path) => files.push(path),
            Genes::Lines { ids, names } => files.extend([ids].into_iter().chain(names)),
        }
        match self.cells {
            Cells::Barcodes(path) | Cells::Table(path) => files.push(path),
        }
        files
    }

    fn of_10x(matrix: PathBuf, features: PathBuf, barcodes: PathBuf) -> Layout {
        Layout {
            program: "10x",
            matrices: vec![(MatrixKey::X, matrix)],
            genes: Genes::Features(features),
            cells: Cells::Barcodes(barcodes),
            cells_in_rows: false,
            notes: Vec::new(),
        }
    }
}

fn in_folder(path: &Path, genome: Option<&str>, depth: usize) -> Result<Layout> {
    let mut matrices = Vec::new();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() {
            folders.push(entry);
        } else if stem_of(&entry).is_some() {
            matrices.push(entry);
        }
    }
    matrices.sort();
    folders.sort();
    // A plain file and its packed copy are one.
    matrices.dedup_by_key(|m| stem_of(m));
    if !matrices.is_empty() {
        return of_matrices(path, matrices);
    }
    if let Some(binary) = ["quants_mat.gz", "quants_mat.eds.gz"].into_iter().find(|n| path.join(n).is_file()) {
        return Err(Error::new(
            ErrorKind::UnsupportedInput,
            "a binary matrix of alevin; write it as quants_mat.mtx (alevin --dumpMtx, alevin-fry quant --use-mtx)",
        )
        .at(binary));
    }
    if depth > 0 {
        let found: Vec<_> = folders.iter().filter(|f| holds_matrix(f, depth - 1)).collect();
        let names = || found.iter().map(|f| name_of(f)).collect::<Vec<_>>().join(", ");
        let chosen = genome.and_then(|g| found.iter().find(|f| name_of(f) == g));
        match (chosen, &found[..]) {
            (Some(folder), _) | (None, [folder]) => return in_folder(folder, genome, depth - 1),
            (None, []) => {}
            (None, _) => {
                let message = format!(
                    "several folders with a matrix: {}; give the path of one, or name a genome with --genome NAME \
                     (genome=NAME)",
                    names()
                );
                return Err(Error::invalid(message));
            }
        }
    }
    if let Some(message) = given_one_by_one(path)? {
        return Err(Error::invalid(message));
    }
    Err(Error::new(
        ErrorKind::UnknownFormat,
        "a folder without a matrix: matrix.mtx[.gz] of 10x or STARsolo, cells_x_genes.mtx of kb-python, DGE.mtx or \
         count_matrix.mtx of Parse, or quants_mat.mtx of alevin-fry",
    ))
}

/// What to do with a folder of files each of which is an input.
fn given_one_by_one(folder: &Path) -> Result<Option<String>> {
    const SHOWN: usize = 3;
    // Of a data set whose matrix is missing.
    const SIDES: [&str; 4] = ["barcodes.tsv", "features.tsv", "genes.tsv", "cell_metadata.csv"];
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.path();
        let name = name_of(&entry).to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends_with(&SIDES) {
            return Ok(None);
        }
        if ends_with(&[".csv", ".tsv", ".h5", ".h5mu", ".loom"]) && !name.starts_with('.') && entry.is_file() {
            files.push(entry);
        }
    }
    files.sort();
    let shown: Vec<String> = files.iter().take(SHOWN).map(|f| format!("\"{}\"", f.display())).collect();
    let more = if files.len() > SHOWN { " ..." } else { "" };
    let (is, ways) = match files.len() {
        0 => return Ok(None),
        1 => ("an input, which is given itself".to_string(), "its path"),
        n => (format!("{n} inputs, which are given one by one"), "a list of their paths"),
    };
    Ok(Some(format!(
        "a folder with {is}: slaf convert {}{more} OUTPUT.slaf (in Python {ways}); only a folder of h5ad files stands \
         for these",
        shown.join(" ")
    )))
}

/// The data set of a folder with these matrix files.
fn of_matrices(folder: &Path, matrices: Vec<PathBuf>) -> Result<Layout> {
    let several = |matrices: &[PathBuf]| {
        let names: Vec<_> = matrices.iter().map(|m| name_of(m)).collect();
        Error::invalid(format!("several matrices, give the path of one: {}", names.join(", ")))
    };
    if let [matrix] = &matrices[..] {
        return beside(matrix);
    }
    if let Some(layout) = kb_layers(folder, &matrices) {
        return Ok(layout);
    }
    let main: Vec<_> = matrices.iter().filter(|m| prefix_of(m).is_some()).collect();
    match main[..] {
        [matrix] => {
            let mut layout = beside(matrix)?;
            let others: Vec<_> = matrices.iter().filter(|m| *m != matrix).map(|m| name_of(m)).collect();
            layout.notes.push(format!("not read: {}; give the path of one to read it", others.join(", ")));
            Ok(layout)
        }
        _ => velocyto(folder, &matrices).ok_or_else(|| several(&matrices)),
    }
}

/// The files that belong to one matrix.
fn beside(matrix: &Path) -> Result<Layout> {
    let folder = matrix.parent().unwrap_or(Path::new("."));
    let stem = stem_of(matrix).unwrap_or_default();
    if let Some((genes, cells)) = parse_tables(folder) {
        return Ok(Layout {
            program: "Parse",
            matrices: vec![(MatrixKey::X, matrix.to_owned())],
            genes: Genes::Table(genes),
            cells: Cells::Table(cells),
            cells_in_rows: true,
            notes: Vec::new(),
        });
    }
    if let (Some(columns), Some(rows)) =
        (present(folder, &format!("{stem}_cols.txt")), present(folder, &format!("{stem}_rows.txt")))
    {
        return Ok(Layout {
            program: "alevin-fry",
            matrices: vec![(MatrixKey::X, matrix.to_owned())],
            genes: Genes::Fry(columns),
            cells: Cells::Barcodes(rows),
            cells_in_rows: true,
            notes: Vec::new(),
        });
    }
    if let Some(layout) =
        kb_base(folder, &stem).and_then(|base| kb(folder, base, vec![(MatrixKey::X, matrix.to_owned())]))
    {
        return Ok(layout);
    }
    let prefix = prefix_of(matrix).unwrap_or_default();
    let find = |names: &[&str]| {
        names.iter().find_map(|n| present(folder, &format!("{prefix}{n}.tsv"))).ok_or_else(|| {
            let name = format!("{prefix}{}.tsv[.gz]", names.join(".tsv[.gz] or "));
            Error::new(ErrorKind::NotFound, format!("no {name} beside {}", name_of(matrix)))
        })
    };
    Ok(Layout::of_10x(matrix.to_owned(), find(&["features", "genes"])?, find(&["barcodes"])?))
}

/// Parse's tables of genes and cells.
fn parse_tables(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let genes = present(folder, "all_genes.csv").or_else(|| present(folder, "genes.csv"))?;
    Some((genes, present(folder, "cell_metadata.csv")?))
}

/// The stem of the side files of a matrix of kb-python: `cells_x_genes` of `cells_x_genes` and
/// of `cells_x_genes.mature`.
fn kb_base<'a>(folder: &Path, stem: &'a str) -> Option<&'a str> {
    let of = |base: &str| present(folder, &format!("{base}.barcodes.txt")).is_some();
    let shorter = || stem.rsplit_once('.').map(|(base, _)| base);
    if of(stem) { Some(stem) } else { shorter().filter(|base| of(base)) }
}

fn kb(folder: &Path, base: &str, matrices: Vec<(MatrixKey, PathBuf)>) -> Option<Layout> {
    Some(Layout {
        program: "kb-python",
        matrices,
        genes: Genes::Lines {
            ids: present(folder, &format!("{base}.genes.txt"))?,
            names: present(folder, &format!("{base}.genes.names.txt")),
        },
        cells: Cells::Barcodes(present(folder, &format!("{base}.barcodes.txt"))?),
        cells_in_rows: true,
        notes: Vec::new(),
    })
}

/// kb-python's workflow nac: a matrix for each kind of molecule, all with the same side files.
fn kb_layers(folder: &Path, matrices: &[PathBuf]) -> Option<Layout> {
    let mut all: Option<String> = None;
    let mut keys = Vec::new();
    for matrix in matrices {
        let stem = stem_of(matrix)?;
        let base = kb_base(folder, &stem)?;
        if all.get_or_insert_with(|| base.to_owned()) != base {
            return None;
        }
        keys.push(match stem.strip_prefix(base)?.strip_prefix('.') {
            Some(layer) => MatrixKey::Layer(layer.to_owned()),
            None => MatrixKey::X,
        });
    }
    let mut named: Vec<_> = keys.into_iter().zip(matrices.iter().cloned()).collect();
    named.sort();
    kb(folder, &all?, named)
}

/// STARsolo's folder Velocyto.
fn velocyto(folder: &Path, matrices: &[PathBuf]) -> Option<Layout> {
    let mut layers = Vec::new();
    for matrix in matrices {
        let stem = stem_of(matrix)?;
        VELOCYTO.contains(&stem.as_str()).then(|| layers.push((MatrixKey::Layer(stem), matrix.clone())))?;
    }
    let features = present(folder, "features.tsv")?;
    let layout = Layout::of_10x(PathBuf::new(), features, present(folder, "barcodes.tsv")?);
    Some(Layout { program: "STARsolo Velocyto", matrices: layers, ..layout })
}

/// A file of this name, or its packed form.
fn present(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|p| p.is_file())
}

/// Whether there is a matrix file in the folder or below it.
fn holds_matrix(folder: &Path, depth: usize) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.filter_map(std::result::Result::ok).any(|e| {
            let path = e.path();
            if path.is_dir() { depth > 0 && holds_matrix(&path, depth - 1) } else { stem_of(&path).is_some() }
        })
    })
}

/// What comes before `.mtx` or `.mtx.gz` in the name of a file.
fn stem_of(path: &Path) -> Option<String> {
    let name = name_of(path);
    name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(".mtx").map(str::to_owned)
}

/// What comes before `matrix` in the stem of a file.
fn prefix_of(path: &Path) -> Option<String> {
    stem_of(path)?.strip_suffix("matrix").map(str::to_owned)
}
