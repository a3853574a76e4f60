//! Which matrices and arrays of several inputs become one.

use crate::model::{ArrayInfo, Axis, Input, Loss, MatrixInfo, MatrixKey};

/// The layers of a union that an input does not have.
pub(crate) fn absent_layers(input: &dyn Input, matrices: &[MatrixInfo]) -> Vec<String> {
    let own = &input.description().matrices;
    let absent = matrices.iter().filter(|m| own.iter().all(|o| o.key != m.key));
    let names = absent.filter_map(|m| match &m.key {
        MatrixKey::Layer(name) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// X, and the layers and obsm that every input has; where the genes are those of the first one
/// (`same_genes`), its varm that no other has.
pub(crate) fn unite_slots(
    inputs: &[(String, Box<dyn Input>)],
    [n_cells, n_genes]: [u64; 2],
    fill_layers: bool,
    same_genes: bool,
    losses: &mut Vec<Loss>,
) -> (Vec<MatrixInfo>, Vec<ArrayInfo>) {
    let lose = |path: String, reason: &str, losses: &mut Vec<Loss>| {
        if !losses.iter().any(|l| l.path == path) {
            losses.push(Loss { path, reason: reason.to_string() });
        }
    };
    let (mut matrices, mut arrays) = (Vec::<MatrixInfo>::new(), Vec::<ArrayInfo>::new());
    for (i, (name, input)) in inputs.iter().enumerate() {
        let d = input.description();
        for m in &d.matrices {
            let alike: Vec<&MatrixInfo> =
                inputs.iter().filter_map(|(_, i)| i.description().matrices.iter().find(|o| o.key == m.key)).collect();
            if !matches!(m.key, MatrixKey::X | MatrixKey::Layer(_)) {
                lose(format!("{} of {name}", m.key), "not united over several inputs", losses);
            } else if alike.len() < inputs.len() && m.key == MatrixKey::X {
                lose(m.key.to_string(), "not in every input", losses);
            } else if alike.len() < inputs.len() && !fill_layers {
                let lacks = |i: &dyn Input| i.description().matrices.iter().all(|o| o.key != m.key);
                let without: Vec<&str> =
                    inputs.iter().filter(|(_, i)| lacks(i.as_ref())).take(3).map(|(n, _)| n.as_str()).collect();
                let reason =
                    format!("not in {}; --fill-layers (fill_layers=True) takes it as zeros there", without.join(", "));
                lose(m.key.to_string(), &reason, losses);
            } else if !matrices.iter().any(|o| o.key == m.key) {
                matrices.push(MatrixInfo {
                    dtype: alike.iter().fold(m.dtype, |d, o| d.promote(o.dtype)),
                    n_rows: n_cells,
                    n_cols: n_genes,
                    nnz: None,
                    ..m.clone()
                });
            }
        }
        for a in &d.arrays {
            let path = format!("{}/{}", if a.key.axis == Axis::Cells { "obsm" } else { "varm" }, a.key.name);
            let alike: Vec<&ArrayInfo> = inputs
                .iter()
                .filter_map(|(_, i)| i.description().arrays.iter().find(|o| o.key == a.key && o.n_cols == a.n_cols))
                .collect();
            if a.key.axis == Axis::Genes {
                let has_it = |input: &dyn Input| input.description().arrays.iter().any(|o| o.key == a.key);
                if same_genes && i == 0 && !inputs[1..].iter().any(|(_, other)| has_it(&**other)) {
                    arrays.push(a.clone());
                    continue;
                }
                lose(format!("{path} of {name}"), "not united over several inputs", losses);
            } else if alike.len() < inputs.len() {
                lose(path, "not in every input with the same number of columns", losses);
            } else if !arrays.iter().any(|o| o.key == a.key) {
                let dtype = alike.iter().fold(a.dtype, |d, o| d.promote(o.dtype));
                arrays.push(ArrayInfo { dtype, n_rows: n_cells, ..a.clone() });
            }
        }
        for extra in d.extras.iter().filter(|e| *e != "uns") {
            lose(format!("{extra} of {name}"), "not united over several inputs", losses);
        }
        if d.raw_var.is_some() {
            lose(format!("raw of {name}"), "not united over several inputs", losses);
        }
    }
    (matrices, arrays)
}
