//! Rows that are the genes of a cell by falling key and nothing else, as Geneformer's with medians.
//!
//! They are made of the nonzeros in any order of the genes, in one go from the packed numbers to
//! the row: the columns of a store need not be renumbered before.

use super::columns::Columns;
use super::description::{Description, Fill, Order, Select, Ties, TotalOf};
use super::entries::{Genes, KeyOf, are_expressed};
use super::matching::DROP;
use super::rank::{PAYLOAD, Ranker, octaves_from};
use super::row::Cell;
use slaf_core::Value;
use std::cmp::Ordering;

/// Bits of a payload for the token; the others are for the place among the nonzeros.
const TOKEN: u32 = PAYLOAD / 2;
const TOKENS: u64 = 1 << TOKEN;

/// What is needed of a column for the key of a nonzero.
#[derive(Clone, Copy)]
struct Column {
    /// About 1 over the scale.
    factor: f32,
    /// [`DROP`] where there is none.
    token: u32,
}

/// The columns of a matrix, for rows by key.
pub(super) struct ByKey {
    columns: Vec<Column>,
    /// Where the range of rough keys begins: at the smallest key of a count of 1.
    octaves: u32,
}

impl ByKey {
    /// `None` if rows are more than the genes by falling key.
    pub(super) fn new(d: &Description, genes: &Genes, columns: &Columns) -> Option<ByKey> {
        let is_by_key = matches!(d.select, Select::Top { ties: Ties::Column }) && d.order == Order::Key;
        let has_more = d.fill != Fill::None || d.values.is_some() || d.total != TotalOf::All;
        let is_large = genes.tokens.iter().any(|&t| t != DROP && u64::from(t) >= TOKENS);
        if !is_by_key || has_more || is_large || genes.factors.is_empty() || !genes.first_of_token.is_empty() {
            return None;
        }
        let known = genes.factors.iter().zip(&genes.tokens).filter(|(_, t)| **t != DROP).map(|(f, _)| *f);
        let smallest = known.fold(f32::MAX, f32::min);
        let column = |c: u32| {
            let gene = columns.gene(c) as usize;
            let token = genes.tokens[gene];
            // Keys of genes without a token lie among the others, and cost no branch of their own.
            Column { factor: if token == DROP { smallest } else { genes.factors[gene] }, token }
        };
        let columns = (0..genes.tokens.len() as u32).map(column).collect();
        Some(ByKey { columns, octaves: octaves_from(smallest) })
    }

    /// Whether this can be done with a row: its places fit into payloads, and it has no values that
    /// are refused or taken for zero.
    pub(super) fn takes<T: Value>(values: &[T]) -> bool {
        (values.len() as u64) < 1 << (PAYLOAD - TOKEN) && are_expressed(values)
    }

    /// Enters the nonzeros of a cell that have a token, all of them expressed. Returns how many
    /// those are.
    pub(super) fn enter<T: Value>(&self, ranker: &mut Ranker, columns: &[u32], values: &[T]) -> usize {
        let key = |(i, (&c, &value)): (u64, (&u32, &T))| {
            let Column { factor, token } = self.columns[c as usize];
            (value.as_f64() as f32 * factor, (i << TOKEN) | (u64::from(token) % TOKENS), token != DROP)
        };
        ranker.enter(self.octaves, values.len(), (0..).zip(columns.iter().zip(values)).map(key))
    }

    /// The tokens of the largest keys of the entered nonzeros into `ids`; returns how many.
    pub(super) fn write<T: Value>(
        ranker: &mut Ranker,
        cell: &Cell<'_, T>,
        key: KeyOf<'_>,
        columns: &Columns,
        ids: &mut [i64],
    ) -> usize {
        let at = |payload: u64| {
            let i = (payload >> TOKEN) as usize;
            (cell.values[i].as_f64(), columns.gene(cell.columns[i]))
        };
        let order = |a: u64, b: u64| -> Ordering {
            let (a, b) = (at(a), at(b));
            key.compare(a, b).then(a.1.cmp(&b.1))
        };
        let (mut n, largest) = (0, ranker.largest(ids.len(), order));
        for (id, payload) in ids.iter_mut().zip(largest) {
            *id = (payload & (TOKENS - 1)) as i64;
            n += 1;
        }
        n
    }
}
