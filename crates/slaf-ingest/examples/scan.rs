//! Reads every matrix of a file once: `cargo run --release --example scan -- FILE...`.

use slaf_core::with_values;
use std::time::Instant;

fn main() -> slaf_core::Result<()> {
    for path in std::env::args_os().skip(1) {
        let input = slaf_ingest::open(path.as_ref(), &slaf_ingest::OpenOptions::default())?;
        let d = input.description();
        println!("{}: {}, {} cells x {} genes", path.display(), d.format, d.n_cells, d.n_genes);
        println!(
            "  obs {} columns, var {} columns",
            input.obs(0..d.n_cells)?.columns.len(),
            input.var()?.columns.len()
        );
        for m in &d.matrices {
            let start = Instant::now();
            let (mut nnz, mut sum, mut rows) = (0, 0.0, 0);
            let mut stream = input.matrix(&m.key, slaf_ingest::StreamOptions::default())?;
            for chunk in &mut stream {
                let chunk = chunk?;
                chunk.validate(m.n_cols, rows)?;
                rows += chunk.n_rows() as u64;
                nnz += chunk.nnz();
                sum += with_values!(&chunk.values, v => v.iter().map(|x| slaf_core::Value::as_f64(*x)).sum::<f64>());
            }
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "  {} {} {}: {rows} rows, {nnz} values, sum {sum}, {} duplicates, {:.1} M values/s",
                m.key,
                m.encoding.name(),
                m.dtype,
                stream.duplicates(),
                nnz as f64 / seconds / 1e6
            );
        }
        println!("  extras {:?}", d.extras);
        for l in &d.losses {
            println!("  loss {}: {}", l.path, l.reason);
        }
    }
    Ok(())
}
