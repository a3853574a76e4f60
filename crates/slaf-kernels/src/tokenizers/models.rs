//! The descriptions of known models.

use super::description::{
    Binning, Bins, Description, Empty, Fill, IdStyle, Order, Select, Special, Ties, TotalOf, ValueMap, Weight,
};

/// Which generation of Geneformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Geneformer {
    /// No special tokens; the published model takes 2,048 tokens.
    V1,
    /// `<cls>` first and `<eos>` last; the published models take 4,096 tokens.
    V2,
}

slaf_core::names!(Geneformer, "version of Geneformer", { V1 => "V1", V2 => "V2" });

impl Description {
    /// Rank value encoding (Theodoris et al. 2023): genes by falling
    /// `x / total * 10_000 / median`, `length` tokens with special ones.
    ///
    /// Without medians, `scale` is to be set to false; genes are then ranked by normalised count.
    pub fn geneformer(version: Geneformer, length: usize) -> Self {
        let special = |token: &str| vec![Special::new(token, 0.0)];
        let (first, last) = match version {
            Geneformer::V1 => (Vec::new(), Vec::new()),
            Geneformer::V2 => (special("<cls>"), special("<eos>")),
        };
        Description {
            length,
            genes: IdStyle::Ensembl,
            total: TotalOf::All,
            target_sum: Some(10_000.0),
            scale: true,
            select: Select::Top { ties: Ties::Column },
            fill: Fill::None,
            order: Order::Key,
            values: None,
            first,
            last,
            pad: Special::new("<pad>", 0.0),
            empty: Empty::Keep,
        }
    }

    /// scGPT (Cui et al. 2024): `<cls>`, then a random subset of the expressed genes in column
    /// order, with the quantile bins of the stored values beside them.
    ///
    /// `<cls>` and padding have the value `pad_value`, which is -2 in pretraining and for
    /// embeddings. In fine-tuning the value of `<cls>` is 0, and a data set that was cut to its
    /// first genes is had with `select` = [`Select::Head`].
    pub fn scgpt(length: usize, n_bins: u32, mode: Binning, pad_value: f32) -> Self {
        Description {
            length,
            genes: IdStyle::Symbol,
            total: TotalOf::All,
            target_sum: None,
            scale: false,
            select: Select::Sample { weight: Weight::Uniform, replace: false },
            fill: Fill::None,
            order: Order::Column,
            values: Some(ValueMap { bins: Some(Bins { n_bins, mode }), ..ValueMap::default() }),
            first: vec![Special::new("<cls>", pad_value)],
            last: Vec::new(),
            pad: Special::new("<pad>", pad_value),
            empty: Empty::Keep,
        }
    }
}
