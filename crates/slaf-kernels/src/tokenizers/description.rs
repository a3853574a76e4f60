//! A tokenizer as data: which parts it is composed of.

use serde::{Deserialize, Serialize};
use slaf_core::{Error, Result};

/// How a cell becomes a row of tokens. JSON, so that users compose their own:
///
/// ```
/// # use slaf_kernels::tokenizers::Description;
/// let d = Description::from_json(
///     r#"{"length": 1024, "genes": "symbol", "target_sum": 10000,
///         "select": {"sample": {"weight": "log1p", "replace": true}}, "order": "random",
///         "values": {"transform": "log1p"}, "first": [{"token": "<cls>"}], "pad": {"token": "<pad>"}}"#,
/// )?;
/// assert_eq!(d.body(), 1023);
/// # Ok::<(), slaf_core::Error>(())
/// ```
///
/// The parts work in this order on the nonzeros of a cell (values below 1.2e-38 count as zero):
/// 1. genes without a token are dropped; genes that share one are summed, at the place of the
///    first of them (`genes` says how ids are compared);
/// 2. `key = x / total * target_sum / scale[gene]`, each factor only where it is asked for;
/// 3. `select` keeps at most [`body`](Description::body) of them, `fill` adds genes that are not
///    expressed, `order` sorts;
/// 4. `values` says what stands beside each token; bins are those of all nonzeros, also of those
///    that were not selected;
/// 5. `first`, the genes, `last`, then `pad` up to `length`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Tokens in a row, special tokens and padding included.
    pub length: usize,
    /// How names of genes are compared with the vocabulary.
    #[serde(default)]
    pub genes: IdStyle,
    /// What the total of a cell is the sum of.
    #[serde(default)]
    pub total: TotalOf,
    /// What the total of a cell is scaled to; without it, values are taken as they are.
    #[serde(default)]
    pub target_sum: Option<f64>,
    /// Whether keys are divided by the table of scales (Geneformer: medians). Genes without a
    /// scale are dropped.
    #[serde(default)]
    pub scale: bool,
    /// Which genes stay where more are expressed than fit.
    #[serde(default)]
    pub select: Select,
    /// What fills the space that is left.
    #[serde(default)]
    pub fill: Fill,
    /// The order of the gene tokens.
    #[serde(default)]
    pub order: Order,
    /// What stands beside each token; without it, there are no values.
    #[serde(default)]
    pub values: Option<ValueMap>,
    /// Special tokens before the genes.
    #[serde(default)]
    pub first: Vec<Special>,
    /// Special tokens behind the genes.
    #[serde(default)]
    pub last: Vec<Special>,
    /// The token of the space that nothing fills.
    pub pad: Special,
    /// What becomes of a cell without tokens.
    #[serde(default)]
    pub empty: Empty,
}

/// How gene ids are compared with the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdStyle {
    /// Upper case; the version suffix of an Ensembl id (`ENSG00000141510.18`) does not count.
    #[default]
    Ensembl,
    /// Exactly, upper and lower case included.
    Symbol,
}

/// What a cell's total is the sum of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TotalOf {
    /// The total that the caller gives, or else all values of the row.
    #[default]
    All,
    /// The genes that have a token.
    Vocabulary,
}

/// Which of a cell's nonzeros become tokens when there are more than fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The first ones in column order.
    #[default]
    Head,
    /// Those with the largest keys.
    Top {
        /// Which of equal keys is first.
        #[serde(default)]
        ties: Ties,
    },
    /// A random sample. With replacement there are always as many as fit.
    Sample {
        /// What the chance of a gene is proportional to.
        #[serde(default)]
        weight: Weight,
        /// Whether a gene may come more than once.
        #[serde(default)]
        replace: bool,
    },
}

/// Which of two genes with the same key is first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The one with the lower number in the data set.
    #[default]
    Column,
    /// One of them by chance.
    Random,
}

/// What the chance to be sampled is proportional to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The same for all.
    #[default]
    Uniform,
    /// The stored value.
    Value,
    /// `ln(1 + value)`.
    Log1p,
}

/// Whether genes of the vocabulary that are not expressed fill the space that is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// They do not: padding does.
    #[default]
    None,
    /// The first ones in column order.
    Column,
    /// Some by chance.
    Random,
}

/// The order of the gene tokens of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The gene's number in the data set.
    #[default]
    Column,
    /// Largest key first, ties by column.
    Key,
    /// Smallest entry of the table of positions first, ties by column, genes without one last.
    Position,
    /// By chance.
    Random,
}

/// What stands beside each token: a transformation, then a clip, then bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueMap {
    /// What is made of the stored value.
    #[serde(default)]
    pub transform: Transform,
    /// Larger values become this one.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Numbers of bins in place of the values.
    #[serde(default)]
    pub bins: Option<Bins>,
}

/// What is made of a stored value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// The value itself.
    #[default]
    Raw,
    /// `x / total * target_sum`.
    Normalized,
    /// `ln(1 + x / total * target_sum)`, or `ln(1 + x)` without a `target_sum`.
    Log1p,
}

/// Bins between the quantiles of a cell's nonzeros; the bins are 1 to `n_bins - 1`, 0 is no
/// expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bins {
    /// How many, with the one of no expression.
    pub n_bins: u32,
    /// Where a value goes that lies on a border.
    #[serde(default)]
    pub mode: Binning,
}

/// Which bin a value gets that several quantiles are equal to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// One of them by chance, from a generator keyed by (seed, epoch, cell): the result does not
    /// depend on batches or threads.
    #[default]
    #[serde(rename = "scgpt")]
    ScGpt,
    /// The last one.
    Deterministic,
    /// One of them by chance, from numpy's legacy `np.random.rand`, bit for bit: one draw for
    /// each nonzero of each cell, in the order in which cells come.
    Strict,
}

slaf_core::names!(Binning, "binning", { ScGpt => "scgpt", Deterministic => "deterministic", Strict => "strict" });

/// A special token, by its name in the vocabulary, and the value beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Special {
    /// Its name in the vocabulary.
    pub token: String,
    /// The value beside it.
    #[serde(default)]
    pub value: SpecialValue,
}

/// The value beside a special token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SpecialValue {
    /// The same in every row.
    Number(f32),
    /// A number of the cell.
    OfCell(OfCell),
}

/// A number of the cell as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfCell {
    /// The decimal logarithm of the cell's total.
    Log10Total,
}

impl Default for SpecialValue {
    fn default() -> Self {
        SpecialValue::Number(0.0)
    }
}

impl Special {
    /// A special token with the same value in every row.
    pub fn new(token: impl Into<String>, value: f32) -> Self {
        Special { token: token.into(), value: SpecialValue::Number(value) }
    }
}

/// What happens to a cell that has no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Empty {
    /// A row of padding, without special tokens.
    #[default]
    Keep,
    /// No row.
    Drop,
}

impl Description {
    /// Whether rows hang on the total of their cell.
    pub(super) fn needs_total(&self) -> bool {
        let total = |s: &Special| matches!(s.value, SpecialValue::OfCell(OfCell::Log10Total));
        self.target_sum.is_some() || self.first.iter().chain(&self.last).any(total)
    }

    /// The description in a JSON text, checked.
    ///
    /// # Errors
    /// `invalid-argument` for unknown names and for what [`Description::check`] refuses.
    pub fn from_json(text: &str) -> Result<Self> {
        let description: Description = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("not the description of a tokenizer: {e}")).with_source(e))?;
        description.check()?;
        Ok(description)
    }

    /// Gene tokens that fit into a row.
    pub fn body(&self) -> usize {
        self.length.saturating_sub(self.first.len() + self.last.len())
    }

    /// # Errors
    /// `invalid-argument` for parts that do not go together.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: &str| Err(Error::invalid(message));
        if self.length <= self.first.len() + self.last.len() {
            return wrong("\"length\" leaves no room for genes between the special tokens");
        }
        if self.length > u32::MAX as usize {
            return wrong("\"length\" is above 4,294,967,295");
        }
        let positive = |x: Option<f64>| x.is_none_or(|x| x.is_finite() && x > 0.0);
        if !positive(self.target_sum) || !positive(self.values.and_then(|v| v.clip)) {
            return wrong("\"target_sum\" and \"clip\" must be above 0");
        }
        if let Some(ValueMap { transform, bins, .. }) = self.values {
            if transform == Transform::Normalized && self.target_sum.is_none() {
                return wrong("the transform \"normalized\" needs a \"target_sum\"");
            }
            // Above 2^15, two bin numbers would not fit where they are kept.
            if bins.is_some_and(|b| !(3..=32_768).contains(&b.n_bins)) {
                return wrong("\"n_bins\" must be 3 to 32,768");
            }
        }
        Ok(())
    }
}
