//! The genes of several inputs as those of one: which are the same, and which were measured where.

use crate::measured::Measured;
use crate::model::{Frame, Input};
use arrow::array::AsArray;
use slaf_core::order::DROP;
use slaf_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

/// Which genes the union has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// Those of any input: those of the first one, then the new ones of the next, and so on.
    #[default]
    Outer,
    /// Those that every input has, in the order of the first.
    Inner,
    /// Those of the first input.
    Reference,
}

slaf_core::names!(Join, "join", { Outer => "outer", Inner => "inner", Reference => "reference" });

/// How the genes of an input go with those of the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneMatch {
    /// Its genes that the first one has, too.
    pub matched: u64,
    /// Its other genes, in the union.
    pub new: u64,
    /// Its genes that the union leaves out.
    pub left_out: u64,
    /// The genes of the first one that it does not have.
    pub lacking: u64,
    /// What one of its genes is called where they are matched.
    pub example: Option<String>,
}

/// What tells the genes of each input apart, and what that is.
pub(crate) fn gene_keys(
    inputs: &[(String, Box<dyn Input>)],
    vars: &[Frame],
) -> Result<(Vec<Vec<String>>, &'static str)> {
    let repeated = |keys: &[String]| -> Option<String> {
        let mut seen = HashSet::new();
        keys.iter().find(|k| !seen.insert(k.as_str())).cloned()
    };
    let ids: Option<Vec<Vec<String>>> = vars
        .iter()
        .map(|var| {
            let column = var.columns.iter().find(|c| c.info.name == "gene_ids")?;
            let text = arrow::compute::cast(&column.array, &arrow::datatypes::DataType::Utf8).ok()?;
            let ids: Vec<String> =
                text.as_string_opt::<i32>()?.iter().map(|s| s.map(str::to_owned)).collect::<Option<_>>()?;
            repeated(&ids).is_none().then_some(ids)
        })
        .collect();
    if let Some(ids) = ids {
        return Ok((ids, "var[\"gene_ids\"]"));
    }
    for ((name, _), var) in inputs.iter().zip(vars) {
        if let Some(gene) = repeated(&var.index) {
            return Err(Error::new(
                ErrorKind::AmbiguousName,
                format!(
                    "gene \"{gene}\" comes more than once, so that inputs cannot be joined by it; make the names unique"
                ),
            )
            .at("var")
            .at(name));
        }
    }
    Ok((vars.iter().map(|v| v.index.clone()).collect(), "the index of var"))
}

/// The genes of the union (input and row where each comes first), and each input's map to them.
pub(crate) fn match_genes(keys: &[Vec<String>], join: Join) -> (Vec<(usize, usize)>, Vec<Vec<u32>>) {
    let mut number: HashMap<&str, u32> = HashMap::new();
    let mut genes = Vec::new();
    for (i, names) in keys.iter().enumerate() {
        for (row, name) in names.iter().enumerate() {
            let kept = match join {
                Join::Outer => true,
                Join::Inner | Join::Reference => i == 0,
            };
            if kept && !number.contains_key(name.as_str()) {
                number.insert(name, genes.len() as u32);
                genes.push((i, row));
            }
        }
    }
    if join == Join::Inner {
        let sets: Vec<HashSet<&str>> = keys[1..].iter().map(|k| k.iter().map(String::as_str).collect()).collect();
        genes.retain(|&(i, row)| sets.iter().all(|s| s.contains(keys[i][row].as_str())));
        number = genes.iter().enumerate().map(|(n, &(i, row))| (keys[i][row].as_str(), n as u32)).collect();
    }
    let maps = keys.iter().map(|names| names.iter().map(|n| number.get(n.as_str()).copied().unwrap_or(DROP)).collect());
    (genes, maps.collect())
}

/// The error about an inner join of which no gene is left.
pub(crate) fn no_common_gene(inputs: &[(String, Box<dyn Input>)], keys: &[Vec<String>]) -> Error {
    let first: HashSet<&str> = keys[0].iter().map(String::as_str).collect();
    let is_apart = |own: &Vec<String>| own.iter().all(|gene| !first.contains(gene.as_str()));
    let apart = inputs.iter().zip(keys).skip(1).find(|(_, own)| is_apart(own));
    let why = match apart {
        Some(((name, _), _)) => format!("; {name} has none of those of {}", inputs[0].0),
        None => String::new(),
    };
    Error::invalid(format!(
        "no gene is in every input{why}: take --join outer (join=\"outer\"), or check the gene names"
    ))
}

/// Which genes were measured in the cells of each input.
pub(crate) fn measured_in(
    inputs: &[(String, Box<dyn Input>)],
    maps: &[Vec<u32>],
    n_genes: u64,
    hidden: usize,
) -> Measured {
    let mut measured = Measured::new(n_genes);
    for (i, ((name, input), map)) in inputs.iter().zip(maps).enumerate() {
        let name = (i >= hidden).then_some(name.as_str());
        match &input.description().measured {
            Some(own) => measured.extend(own, map, name),
            None => measured.extend_all(input.description().n_cells, map, name),
        }
    }
    measured
}

/// How an input's genes go with those of the first one, by their numbers in the union.
pub(crate) fn gene_match(genes: &[u32], first: &[u32], keys: &[String]) -> GeneMatch {
    let of_first: HashSet<u32> = first.iter().copied().filter(|g| *g != DROP).collect();
    let left_out = genes.iter().filter(|g| **g == DROP).count();
    let matched = genes.iter().filter(|g| of_first.contains(g)).count();
    GeneMatch {
        matched: matched as u64,
        new: (genes.len() - left_out - matched) as u64,
        left_out: left_out as u64,
        lacking: (of_first.len() - matched) as u64,
        example: keys.first().cloned(),
    }
}
