use crate::{Cell, Rows, chunk, column, random_cells, tokenize, tokenize_with};
use slaf_core::Dtype;
use slaf_kernels::tokenizers::{
    Batch, Binning, Description, Random, Recipe, Select, SpecialValue, Tokenizer, Vocabulary,
};

const N_GENES: u32 = 120;

fn names() -> Vec<String> {
    (0..N_GENES).map(|i| format!("G{i}")).collect()
}

/// Token = gene + 3; every fifth gene has none.
fn tokenizer(description: Description) -> Tokenizer {
    let specials = ["<pad>", "<cls>", "<eoc>"].map(String::from);
    let entries =
        specials.into_iter().chain(names()).zip(0..).filter(|(name, t)| *t < 3 || !name.ends_with(['0', '5']));
    let recipe = Recipe::new(description, Vocabulary::new(entries).unwrap());
    recipe.prepare(&[column("gene_id", &names())]).unwrap()
}

fn known(cell: &Cell) -> Cell {
    cell.iter().copied().filter(|e| e.0 % 5 != 0).collect()
}

/// The number of quantiles up to and below a value, one value at a time.
fn spans(cell: &Cell, n_edges: u32) -> Vec<(f32, f32)> {
    let mut sorted: Vec<f64> = cell.iter().map(|e| e.1).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let edge = |i: u32| {
        let at = last as f64 * if i + 1 == n_edges { 1.0 } else { f64::from(i) * (1.0 / f64::from(n_edges - 1)) };
        let (a, b, t) = (sorted[at as usize], sorted[(at as usize + 1).min(last)], at.fract());
        if t < 0.5 { a + (b - a) * t } else { b - (b - a) * (1.0 - t) }
    };
    let edges: Vec<f64> = (0..n_edges).map(edge).collect();
    let count = |is: &dyn Fn(f64) -> bool| edges.iter().filter(|q| is(**q)).count() as f32;
    cell.iter().map(|e| (count(&|q| q <= e.1), count(&|q| q < e.1))).collect()
}

#[test]
fn deterministic_rows_are_those_of_the_definition() {
    let cells = random_cells(30, N_GENES, 0.4, 1);
    let t = tokenizer(Description { select: Select::Head, ..Description::scgpt(40, 51, Binning::Deterministic, -2.0) });
    let rows = tokenize(&t, &chunk(&cells, Dtype::U16));
    for (i, cell) in cells.iter().map(known).enumerate() {
        let mut ids = vec![1];
        ids.extend(cell.iter().map(|e| i64::from(e.0) + 3));
        let mut values = vec![-2.0];
        values.extend(spans(&cell, 50).iter().map(|s| s.0));
        let mask: Vec<bool> = (0..40).map(|i| i < ids.len()).collect();
        ids.resize(40, 0);
        values.resize(40, -2.0);
        // The quantiles are those of all genes, also of those that were cut off.
        assert_eq!((&rows.ids[i], &rows.values[i], &rows.mask[i]), (&ids, &values, &mask));
    }
}

#[test]
fn random_bins_lie_among_the_equal_quantiles_and_use_all_of_them() {
    let cells = random_cells(300, N_GENES, 0.4, 2);
    let t = tokenizer(Description::scgpt(N_GENES as usize, 51, Binning::ScGpt, -2.0));
    let rows = tokenize(&t, &chunk(&cells, Dtype::F32));
    let mut seen = [0_u32; 51];
    for (i, cell) in cells.iter().map(known).enumerate() {
        for (j, (upto, below)) in spans(&cell, 50).into_iter().enumerate() {
            let bin = rows.values[i][j + 1];
            // Between two edges, a value has one bin only.
            assert!(bin > below.min(upto - 1.0) && bin <= upto && bin.fract() == 0.0, "{bin} in {below}..{upto}");
            seen[bin as usize] += 1;
        }
    }
    // Quantile bins have about the same number of genes, ties spread. The last ones share the
    // largest values of these small cells.
    let n: u32 = seen.iter().sum();
    assert!(seen[0] == 0 && seen[1..49].iter().all(|&s| s > n / 50 * 6 / 10 && s < n / 50 * 14 / 10), "{seen:?}");
}

#[test]
fn a_long_cell_is_sampled_evenly() {
    let cell: Cell = (0..N_GENES).map(|g| (g, f64::from(g % 7 + 1))).collect();
    let n = 4_000;
    let chunk = chunk(&vec![cell.clone(); n], Dtype::U8);
    // More and less than half of the 96 genes are taken.
    for length in [31, 91] {
        let t = tokenizer(Description::scgpt(length, 51, Binning::ScGpt, -2.0));
        let rows = tokenize(&t, &chunk);
        let mut seen = vec![0_usize; N_GENES as usize];
        for ids in &rows.ids {
            assert!(ids[0] == 1 && ids[1..].is_sorted_by(|a, b| a < b));
            ids[1..].iter().for_each(|&id| seen[id as usize - 3] += 1);
        }
        let expected = (n * (length - 1)) as f64 / 96.0;
        for (gene, &seen) in seen.iter().enumerate() {
            let expected = if gene % 5 == 0 { 0.0 } else { expected };
            assert!((seen as f64 - expected).abs() <= 6.0 * expected.sqrt(), "gene {gene}: {seen}, not {expected}");
        }
    }
}

fn rows_of(t: &Tokenizer, cells: &[Cell], numbers: &[u64], seed: u64, epoch: u64) -> Rows {
    let chunk = chunk(cells, Dtype::U16);
    tokenize_with(t, &Batch { chunk: &chunk, cells: numbers, totals: None }, &mut Random::new(seed, epoch)).unwrap()
}

#[test]
fn rows_depend_on_seed_epoch_and_cell_only() {
    let cells = random_cells(300, N_GENES, 0.6, 3);
    let numbers: Vec<u64> = (1_000..1_300).collect();
    let t = tokenizer(Description::scgpt(50, 51, Binning::ScGpt, -2.0));
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rows_of(&t, &cells, &numbers, 1, 2))
    };
    let all = in_pool(1);
    assert_eq!(in_pool(3), all);
    for i in [0, 31, 32, 33, 299] {
        let one = rows_of(&t, &cells[i..=i], &numbers[i..=i], 1, 2);
        assert_eq!((&one.ids[0], &one.values[0]), (&all.ids[i], &all.values[i]));
    }
    for (seed, epoch) in [(1, 3), (2, 2)] {
        let other = rows_of(&t, &cells, &numbers, seed, epoch);
        assert!(other.ids != all.ids && other.values != all.values);
    }
    // The same counts in another cell are another sample.
    let twins = rows_of(&t, &[cells[0].clone(), cells[0].clone()], &[5, 6], 1, 2);
    assert_ne!(twins.ids[0], twins.ids[1]);
}

#[test]
fn the_value_of_cls_is_an_option() {
    let mut d = Description::scgpt(4, 51, Binning::ScGpt, -2.0);
    d.first[0].value = SpecialValue::Number(0.0);
    let rows = tokenize(&tokenizer(d), &chunk(&[vec![(1, 3.0)]], Dtype::I64));
    assert_eq!(rows.ids, [[1, 4, 0, 0]]);
    assert_eq!((rows.values[0][0], &rows.values[0][2..]), (0.0, &[-2.0, -2.0][..]));
}
