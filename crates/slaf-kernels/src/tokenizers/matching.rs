//! Finding a data set's genes in a vocabulary.

use super::description::IdStyle;
use super::vocabulary::Vocabulary;
use serde::Serialize;
use slaf_core::{Error, ErrorKind, Result};

/// A column of gene names: the names of the genes, or a column of var.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneColumn {
    /// What the column is called.
    pub name: String,
    /// One for each gene, in order of the genes' numbers; empty where there is none.
    pub ids: Vec<String>,
}

/// How well a vocabulary fits the genes of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GeneMatch {
    /// The column that was compared, of all given ones the one with the most genes found.
    pub column: String,
    /// Each column that was tried and how many of its genes the vocabulary has.
    pub tried: Vec<(String, usize)>,
    /// Genes of the data set.
    pub n_genes: usize,
    /// Genes of the data set that have a token.
    pub n_matched: usize,
    /// Genes that share the token of an earlier one and are added to it.
    pub n_merged: usize,
    /// Genes that have a token and no scale, and are dropped.
    pub n_without_scale: usize,
    /// Genes of the vocabulary.
    pub n_vocabulary: usize,
    /// Genes with a token, of as many as could have one: the smaller of the two numbers of genes.
    pub share: f64,
    /// What a user should know before using the tokenizer.
    pub warning: Option<String>,
}

/// No token.
pub(super) const DROP: u32 = u32::MAX;

/// The tokens of the genes of one column.
pub(super) struct Tokens {
    pub(super) tokens: Vec<u32>,
    /// Ids of the chosen column as they compare, in order of gene.
    pub(super) ids: Vec<String>,
    pub(super) found: GeneMatch,
}

/// Compares each column with the vocabulary and takes the best, of equals the first.
///
/// A data set's own vocabulary goes by gene number if a column has exactly its names, which may
/// then repeat.
///
/// # Errors
/// `invalid-argument` without columns or for columns of different lengths, `unknown-gene` if no
/// column has a gene of the vocabulary.
pub(super) fn find(vocabulary: &Vocabulary, style: IdStyle, columns: &[GeneColumn]) -> Result<Tokens> {
    let n_genes = columns.first().map(|c| c.ids.len()).ok_or_else(|| Error::invalid("no column of gene names"))?;
    if let Some(c) = columns.iter().find(|c| c.ids.len() != n_genes) {
        return Err(Error::invalid(format!("column \"{}\" has {} names for {n_genes} genes", c.name, c.ids.len())));
    }
    if vocabulary.is_from_data_set()
        && let Some(column) = columns.iter().find(|c| is_own(vocabulary, c))
    {
        return Ok(own(vocabulary, style, column));
    }
    let by_id = vocabulary.by_id(style)?;
    let look_up = |c: &GeneColumn| -> Vec<u32> {
        c.ids.iter().map(|id| by_id.get(&style.comparable(id)).copied().unwrap_or(DROP)).collect()
    };
    let mut tried = Vec::new();
    let mut best: Option<(usize, &GeneColumn, Vec<u32>)> = None;
    for column in columns {
        let tokens = look_up(column);
        let n = tokens.iter().filter(|&&t| t != DROP).count();
        tried.push((column.name.clone(), n));
        if best.as_ref().is_none_or(|b| n > b.0) {
            best = Some((n, column, tokens));
        }
    }
    match best {
        Some((n, column, tokens)) if n > 0 => {
            let found = report(vocabulary, column, tried, n);
            Ok(Tokens { tokens, ids: column.ids.iter().map(|id| style.comparable(id)).collect(), found })
        }
        _ => Err(no_overlap(vocabulary, columns)),
    }
}

fn is_own(vocabulary: &Vocabulary, column: &GeneColumn) -> bool {
    let mut genes = vocabulary.genes();
    let mut ids = column.ids.iter();
    genes.by_ref().zip(ids.by_ref()).all(|((name, _), id)| name == id) && genes.next().is_none()
}

fn own(vocabulary: &Vocabulary, style: IdStyle, column: &GeneColumn) -> Tokens {
    let mut tokens: Vec<u32> = vocabulary.genes().map(|g| g.1).collect();
    let n = tokens.len();
    tokens.resize(column.ids.len(), DROP);
    let found = report(vocabulary, column, vec![(column.name.clone(), n)], n);
    Tokens { tokens, ids: column.ids.iter().map(|id| style.comparable(id)).collect(), found }
}

fn report(vocabulary: &Vocabulary, column: &GeneColumn, tried: Vec<(String, usize)>, n: usize) -> GeneMatch {
    let n_vocabulary = vocabulary.genes().count();
    let share = n as f64 / n_vocabulary.min(column.ids.len()).max(1) as f64;
    let warning = (share < 0.5).then(|| {
        format!(
            "only {n} of {} genes are in the vocabulary of {n_vocabulary} genes ({:.0} % of what is possible); \
             compared by \"{}\": is this the vocabulary of another species, or of another kind of gene id?",
            column.ids.len(),
            100.0 * share,
            column.name
        )
    });
    GeneMatch {
        column: column.name.clone(),
        tried,
        n_genes: column.ids.len(),
        n_matched: n,
        n_merged: 0,
        n_without_scale: 0,
        n_vocabulary,
        share,
        warning,
    }
}

fn no_overlap(vocabulary: &Vocabulary, columns: &[GeneColumn]) -> Error {
    let quoted = |names: Vec<&str>| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let of_column =
        |c: &GeneColumn| format!("{} has {}", c.name, quoted(c.ids.iter().take(3).map(String::as_str).collect()));
    Error::new(
        ErrorKind::UnknownGene,
        format!(
            "no gene of the data set is in the vocabulary: {}; the vocabulary has {}",
            columns.iter().map(of_column).collect::<Vec<_>>().join("; "),
            quoted(vocabulary.genes().take(3).map(|g| g.0).collect())
        ),
    )
}
