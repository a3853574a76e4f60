//! Which token stands for which gene.

use super::description::IdStyle;
use super::pickle::Number;
use super::table::read_numbers;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::path::Path;

/// Tokens and the names of genes and special tokens that they stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Entries", into = "Entries")]
pub struct Vocabulary {
    /// In order of token.
    entries: Vec<(String, u32)>,
    from_data_set: bool,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entries {
    from_data_set: bool,
    entries: Vec<(String, u32)>,
}

impl From<Vocabulary> for Entries {
    fn from(v: Vocabulary) -> Self {
        Entries { from_data_set: v.from_data_set, entries: v.entries }
    }
}

impl TryFrom<Entries> for Vocabulary {
    type Error = Error;
    fn try_from(e: Entries) -> Result<Self> {
        Self::checked(e.entries, e.from_data_set)
    }
}

/// The special tokens of a vocabulary from the data set, and the names that models have for them.
const DATA_SET_SPECIALS: [(&str, u32); 6] =
    [("<pad>", 0), ("<cls>", 1), ("<sep>", 2), ("<eos>", 2), ("<eoc>", 2), ("<mask>", 3)];

/// The token of the first gene of a vocabulary from the data set.
const FIRST_GENE: u32 = 4;

/// Names in angle brackets are no genes.
fn is_special(name: &str) -> bool {
    name.starts_with('<') && name.ends_with('>')
}

impl Vocabulary {
    /// A vocabulary of `(name, token)`; special tokens have names in angle brackets.
    ///
    /// # Errors
    /// `invalid-argument` for an empty vocabulary, a token that is not 0 to 2^31 - 1, and for a
    /// token or a name that comes twice.
    pub fn new(entries: impl IntoIterator<Item = (String, i64)>) -> Result<Self> {
        let entries: Result<Vec<_>> = entries
            .into_iter()
            .map(|(name, token)| match u32::try_from(token) {
                Ok(t) if t <= i32::MAX as u32 => Ok((name, t)),
                _ => Err(Error::invalid(format!("the token of \"{name}\" is {token}, not 0 to 2,147,483,647"))),
            })
            .collect();
        Self::checked(entries?, false)
    }

    fn checked(mut entries: Vec<(String, u32)>, from_data_set: bool) -> Result<Self> {
        if entries.is_empty() {
            return Err(Error::invalid("the vocabulary is empty"));
        }
        entries.sort_by_key(|e| e.1);
        if let Some(w) = entries.windows(2).find(|w| w[0].1 == w[1].1) {
            return Err(Error::invalid(format!("\"{}\" and \"{}\" have the same token {}", w[0].0, w[1].0, w[0].1)));
        }
        let vocabulary = Vocabulary { entries, from_data_set };
        if !from_data_set {
            let mut names: Vec<&str> = vocabulary.entries.iter().map(|e| e.0.as_str()).collect();
            names.sort_unstable();
            if let Some(w) = names.windows(2).find(|w| w[0] == w[1]) {
                return Err(Error::invalid(format!("\"{}\" has two tokens", w[0])));
            }
        }
        Ok(vocabulary)
    }

    /// Reads `{name: token}` from a JSON file or a Python pickle (as Geneformer's
    /// `token_dictionary.pkl`); which of them is told from the first byte.
    ///
    /// # Errors
    /// `not-found`, `malformed-input`, `unsupported-input` for a pickle that holds anything but a
    /// dictionary of strings to numbers, and those of [`Vocabulary::new`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let entries: Result<Vec<_>> = read_numbers(path)?
            .into_iter()
            .map(|(name, x)| match x {
                Number::Int(token) => Ok((name, token)),
                Number::Float(x) => Err(Error::malformed(format!("the token of \"{name}\" is {x}, no whole number"))),
            })
            .collect();
        entries.and_then(Self::new).at(path.display())
    }

    /// The vocabulary of a data set's own genes: `<pad>` 0, `<cls>` 1, `<sep>` 2 (also called
    /// `<eos>` and `<eoc>`), `<mask>` 3, and number + 4 for each gene, cut to tokens below
    /// `vocab_size`.
    ///
    /// `names` are the genes' names in order of their numbers; they may repeat.
    ///
    /// # Errors
    /// `invalid-argument` if `vocab_size` has no room for a gene, or the data set has none.
    pub fn from_data_set<S: AsRef<str>>(names: &[S], vocab_size: usize) -> Result<Self> {
        let room = vocab_size.saturating_sub(FIRST_GENE as usize);
        if room == 0 || names.is_empty() {
            return Err(Error::invalid("a vocabulary from the data set needs a gene and a vocab_size above 4"));
        }
        let specials = DATA_SET_SPECIALS.iter().filter(|(name, _)| !matches!(*name, "<eos>" | "<eoc>"));
        let mut entries: Vec<(String, u32)> = specials.map(|&(name, t)| (name.to_string(), t)).collect();
        entries.extend((FIRST_GENE..).zip(names.iter().take(room)).map(|(t, name)| (name.as_ref().to_string(), t)));
        Self::checked(entries, true)
    }

    /// Whether the tokens are the data set's own gene numbers.
    pub fn is_from_data_set(&self) -> bool {
        self.from_data_set
    }

    /// Names and tokens, in order of token.
    pub fn entries(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries.iter().map(|(name, token)| (name.as_str(), *token))
    }

    /// Special tokens, in order of token.
    pub fn specials(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries().filter(|(name, t)| self.is_special_entry(name, *t))
    }

    /// Genes, in order of token.
    pub fn genes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries().filter(|(name, t)| !self.is_special_entry(name, *t))
    }

    fn is_special_entry(&self, name: &str, token: u32) -> bool {
        if self.from_data_set { token < FIRST_GENE } else { is_special(name) }
    }

    /// One more than the largest token: the rows that a model's embedding needs.
    pub fn size(&self) -> usize {
        self.entries.last().map_or(0, |e| e.1 as usize + 1)
    }

    /// What a token stands for.
    pub fn name(&self, token: i64) -> Option<&str> {
        let token = u32::try_from(token).ok()?;
        self.entries.binary_search_by_key(&token, |e| e.1).ok().map(|i| self.entries[i].0.as_str())
    }

    /// What tokens stand for, special ones included.
    ///
    /// # Errors
    /// `out-of-range` for a number that is no token of this vocabulary.
    pub fn decode(&self, tokens: &[i64]) -> Result<Vec<&str>> {
        let name = |(i, &t): (usize, &i64)| {
            self.name(t).ok_or_else(|| {
                Error::new(ErrorKind::OutOfRange, format!("{t}, at position {i}, is no token of this vocabulary"))
            })
        };
        tokens.iter().enumerate().map(name).collect()
    }

    /// # Errors
    /// `invalid-argument` that lists the special tokens that there are.
    pub(super) fn special(&self, name: &str) -> Result<u32> {
        let alias = DATA_SET_SPECIALS.iter().filter(|_| self.from_data_set).find(|(n, _)| *n == name).map(|e| e.1);
        let found = alias.or_else(|| self.entries().find(|(n, _)| *n == name).map(|e| e.1));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.specials().map(|e| e.0).take(10).collect();
            Error::invalid(format!(
                "the vocabulary has no \"{name}\"; its special tokens: {}",
                if known.is_empty() { "none".into() } else { known.join(", ") }
            ))
        })
    }

    /// The tokens of gene ids as `style` compares them.
    ///
    /// # Errors
    /// `ambiguous-name` for two tokens whose genes compare equal.
    pub(super) fn by_id(&self, style: IdStyle) -> Result<HashMap<String, u32>> {
        let mut tokens = HashMap::with_capacity(self.entries.len());
        for (name, token) in self.genes() {
            if let Some(other) = tokens.insert(style.comparable(name), token) {
                let other = self.name(i64::from(other)).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::AmbiguousName,
                    format!("the vocabulary has \"{other}\" and \"{name}\", which are the same gene"),
                ));
            }
        }
        Ok(tokens)
    }
}

impl IdStyle {
    /// The form in which two ids of the same gene are equal.
    pub(super) fn comparable(self, id: &str) -> String {
        match self {
            IdStyle::Symbol => id.to_string(),
            IdStyle::Ensembl => without_version(&id.trim().to_ascii_uppercase()).to_string(),
        }
    }
}

/// `ENSG00000141510.18` without `.18`. Symbols keep their dots, and so does the second copy of a
/// pseudoautosomal gene (`ENSG00000182378.15_PAR_Y`), which is then no gene of a vocabulary.
fn without_version(id: &str) -> &str {
    match id.rsplit_once('.') {
        Some((stem, version))
            if stem.starts_with("ENS")
                && stem.ends_with(|c: char| c.is_ascii_digit())
                && !version.is_empty()
                && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            stem
        }
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ensembl_ids_compare_without_case_and_version() {
        for (id, comparable) in [
            ("ensg00000141510.18", "ENSG00000141510"),
            (" ENSMUSG00000059552 ", "ENSMUSG00000059552"),
            ("ENSG00000182378.15_PAR_Y", "ENSG00000182378.15_PAR_Y"),
            ("AC000111.1", "AC000111.1"),
            ("ENSG00000141510.", "ENSG00000141510."),
        ] {
            assert_eq!(IdStyle::Ensembl.comparable(id), comparable);
        }
        assert_eq!(IdStyle::Symbol.comparable("Actb"), "Actb");
    }

    #[test]
    fn bad_vocabularies_are_refused() {
        let new = |e: &[(&str, i64)]| Vocabulary::new(e.iter().map(|&(n, t)| (n.to_string(), t)));
        assert!(new(&[]).is_err());
        assert!(new(&[("a", -1)]).is_err());
        assert!(new(&[("a", 1 << 31)]).is_err());
        assert!(new(&[("a", 1), ("b", 1)]).is_err());
        assert!(new(&[("a", 1), ("a", 2)]).is_err());
        let same_gene = new(&[("ENSG01.1", 1), ("ENSG01.2", 2)]).unwrap();
        assert_eq!(same_gene.by_id(IdStyle::Ensembl).unwrap_err().kind(), ErrorKind::AmbiguousName);
        assert!(Vocabulary::from_data_set(&["a"], 4).is_err());
    }

    #[test]
    fn the_data_set_has_its_own_tokens() {
        let v = Vocabulary::from_data_set(&["a", "b", "a", "c"], 7).unwrap();
        assert_eq!(v.size(), 7);
        assert_eq!(v.decode(&[0, 1, 2, 3, 4, 5, 6]).unwrap(), ["<pad>", "<cls>", "<sep>", "<mask>", "a", "b", "a"]);
        assert_eq!(v.decode(&[4, 7]).unwrap_err().kind(), ErrorKind::OutOfRange);
        assert_eq!((v.special("<eos>").unwrap(), v.special("<mask>").unwrap()), (2, 3));
        assert_eq!(v.genes().count(), 3);
        let again: Vocabulary = serde_json::from_str(&serde_json::to_string(&v).unwrap()).unwrap();
        assert_eq!(again, v);
    }
}
