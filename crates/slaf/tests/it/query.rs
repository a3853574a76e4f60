//! SQL answers against the sample.

use crate::Fixture;
use arrow::util::pretty::pretty_format_batches;
use slaf::{Dataset, ErrorKind, Parameter, Parameters, QueryOptions, QueryResult};
use slaf_testing::dense;

fn one(dataset: &Dataset, sql: &str) -> f64 {
    let result = dataset.query(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(result.n_rows(), 1, "{sql}");
    let batch = result.batches.iter().find(|b| b.num_rows() == 1).unwrap();
    let text = arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap();
    text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
}

#[test]
fn expression_is_the_stored_values() {
    let fixture = Fixture::new(1, 150, 40);
    let dataset = fixture.dataset();
    let all = dense(&fixture.sample.x, 40);
    let total: f64 = all.iter().flatten().sum();
    let gene = |g: usize| all.iter().map(|r| r[g]).sum::<f64>();
    for (sql, expected) in [
        ("SELECT COUNT(*) FROM expression", fixture.sample.x.nnz() as f64),
        ("SELECT SUM(value) FROM expression", total),
        ("SELECT SUM(value) FROM expression WHERE gene_id = 'g3'", gene(3)),
        ("SELECT SUM(value) FROM expression WHERE gene_id IN ('g3', 'g7')", gene(3) + gene(7)),
        ("SELECT SUM(value) FROM expression WHERE gene_integer_id BETWEEN 3 AND 4", gene(3) + gene(4)),
        ("SELECT SUM(value) FROM expression WHERE cell_integer_id < 2", all[0].iter().chain(&all[1]).sum()),
        ("SELECT SUM(value) FROM expression WHERE cell_id = 'c5'", all[5].iter().sum()),
        ("SELECT SUM(value) FROM expression WHERE gene_id = 'none'", f64::NAN),
        (
            "SELECT SUM(e.value) FROM expression e JOIN cells c USING (cell_integer_id) WHERE c.cell_type = 'NK'",
            all.iter().enumerate().filter(|(i, _)| i % 5 != 4 && i % 3 == 2).flat_map(|(_, r)| r).sum(),
        ),
        ("SELECT COUNT(*) FROM cells", 150.0),
        ("SELECT SUM(total_counts) FROM cells", total),
        ("SELECT MAX(length) FROM genes", 3900.0),
    ] {
        if expected.is_nan() {
            assert_eq!(dataset.query(sql).unwrap().batches[0].column(0).null_count(), 1, "{sql}");
        } else {
            assert_eq!(one(&dataset, sql), expected, "{sql}");
        }
    }
}

#[test]
fn words_in_double_quotes_are_strings() {
    let fixture = Fixture::new(2, 60, 10);
    let dataset = fixture.dataset();
    let sql = r#"SELECT cell_type, COUNT(*) AS n FROM cells WHERE batch = "b1" AND cell_type IN ("T cells", "NK")
                 GROUP BY cell_type ORDER BY cell_type"#;
    let result = dataset.query(sql).unwrap();
    let table = pretty_format_batches(&result.batches).unwrap().to_string();
    let count = |t: usize| (0..60).filter(|i| i % 4 == 1 && i % 5 != 4 && i % 3 == t).count();
    assert!(table.contains(&format!("| NK        | {}", count(2))), "{table}");
    assert!(table.contains(&format!("| T cells   | {}", count(0))), "{table}");
}

#[test]
fn only_queries_run() {
    let fixture = Fixture::new(3, 10, 5);
    let dataset = fixture.dataset();
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE cells",
        "INSERT INTO cells SELECT * FROM cells",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "SET datafusion.execution.batch_size = 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    ] {
        let error = dataset.query(sql).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::InvalidQuery), "{sql}: {error}");
    }
    let error = dataset.query("SELECT * FROM '/etc/passwd'").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTable, "{error}");
    let error = dataset.query("SELECT celltype FROM cells").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownColumn);
    assert!(error.message().contains("did you mean cell_type?"), "{error}");
}

#[test]
fn streams_give_the_same_rows() {
    let fixture = Fixture::new(4, 70, 20);
    let stream = fixture.dataset().query_stream("SELECT * FROM expression", &Default::default()).unwrap();
    let rows: usize = stream.map(|b| b.unwrap().num_rows()).sum();
    assert_eq!(rows, fixture.sample.x.nnz());
}

/// A plan that is kept gives, for other cells, what a handle that has kept nothing gives.
#[test]
fn plans_of_single_cells_are_kept() {
    let fixture = Fixture::new(5, 60, 30);
    let kept = fixture.dataset();
    let bound =
        |value: Parameter| QueryOptions { parameters: Parameters::Positional(vec![value]), ..QueryOptions::default() };
    let names = |cell: usize| (format!("'c{cell}'"), Parameter::Text(format!("c{cell}")));
    let numbers = |cell: usize| (cell.to_string(), Parameter::Int(cell as i128));
    let tables: [(&str, bool, bool); 8] = [
        ("SELECT gene_id, value FROM expression WHERE cell_id = ?", true, true),
        ("SELECT * FROM expression WHERE cell_integer_id = ?", false, true),
        ("SELECT SUM(value), AVG(value), COUNT(*) FROM expression WHERE cell_id = ?", true, true),
        ("SELECT COUNT(*) FROM expression e WHERE ? = e.cell_integer_id AND value > 1", false, true),
        ("SELECT value FROM expression WHERE cell_id = ? AND gene_id = 'g3'", true, true),
        ("SELECT gene_id, SUM(value) FROM expression WHERE cell_id = ? GROUP BY gene_id ORDER BY 1", true, false),
        ("SELECT sqrt(value) FROM expression WHERE cell_id = ?", true, false),
        ("SELECT value FROM expression WHERE cell_id > ? ORDER BY 1", true, false),
    ];
    for (sql, by_name, is_point) in tables {
        for cell in [3, 59, 0, 60, 3, 17] {
            let (text, value) = if by_name { names(cell) } else { numbers(cell) };
            let found = kept.query_with(sql, &bound(value)).unwrap();
            let expected = fixture.dataset().query(&sql.replace('?', &text)).unwrap();
            assert_eq!(found.schema.fields(), expected.schema.fields(), "{sql}");
            let table = |result: &QueryResult| pretty_format_batches(&result.batches).unwrap().to_string();
            assert_eq!(table(&found), table(&expected), "{sql} of {text}");
        }
        assert_eq!(kept.is_point(sql, &bound(names(1).1)), is_point && by_name, "{sql}");
        assert_eq!(kept.is_point(sql, &bound(numbers(1).1)), is_point && !by_name, "{sql}");
    }
}
