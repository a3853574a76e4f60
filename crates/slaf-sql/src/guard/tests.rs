use super::*;
use crate::error::from_datafusion;
use crate::limits::Limits;
use crate::protect;
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionStateBuilder, context::SessionContext};
use slaf_core::Result;

const POOL: usize = 64 << 20;

/// A table `t` of 1000 rows under limits.
fn session() -> (SessionContext, Limits, Arc<dyn MemoryPool>) {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(POOL));
    let env = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc().unwrap();
    let state = SessionStateBuilder::new().with_runtime_env(env).with_default_features().build();
    let mut state = protect(state).unwrap();
    let limits = Limits::new(pool.clone(), POOL);
    limits.put_into(&mut state);
    let context = SessionContext::new_with_state(state);
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("s{i}"))));
    let batch = RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap();
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    (context, limits, pool)
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    let frame = context.sql(sql).await.map_err(from_datafusion)?;
    frame.collect().await.map_err(from_datafusion)
}

async fn text(sql: &str) -> String {
    let batches = run(&session().0, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batch = batches.iter().find(|b| b.num_rows() > 0).unwrap();
    arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap()
}

#[tokio::test]
async fn greedy_calls_are_refused() {
    for sql in [
        "SELECT repeat('a', 10000000000)",
        "SELECT max(length(repeat(s, 100000))) FROM t",
        "SELECT repeat(repeat('a', 10000), 10000)",
        "SELECT lpad('a', 1000000000), rpad(s, 1000000000, 'b') FROM t",
        "SELECT array_repeat(1, 10000000000)",
        "SELECT array_repeat(array_repeat(1, 10000), 10000)",
        "SELECT array_resize([1], 10000000000)",
        "SELECT max(cardinality(range(n * 100000))) FROM t",
        "SELECT range(10000000000), generate_series(0, -10000000000, -1)",
        "SELECT range(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01', INTERVAL '1 millisecond')",
        "SELECT replace(repeat('a', 100000), 'a', repeat('b', 100000))",
        "SELECT regexp_replace(repeat('a', 100000), 'a', repeat('b', 100000), 'g')",
        "SELECT count(x) FROM (SELECT unnest(range(10000000000)) AS x)",
        "SELECT array_to_string(range(100000), repeat('a', 100000))",
    ] {
        let error = run(&session().0, sql).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MemoryLimit, "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_doubles_is_refused() {
    for double in ["x || x", "concat(x, x)", "concat_ws('', x, x)", "replace(x, 's', 'ss')", "array_concat(x, x)"] {
        let first = if double.starts_with("array") { "[n]" } else { "concat('s', s)" };
        // An optimizer does not put an expression into another that uses it twice.
        let steps: String = (0..16).map(|i| format!(", t{} AS (SELECT {double} AS x FROM t{i})", i + 1)).collect();
        let sql = format!("WITH t0 AS (SELECT {first} AS x FROM t){steps} SELECT count(x) FROM t16");
        let error = std::thread::Builder::new().stack_size(crate::PLANNING_STACK).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { run(&session().0, &sql).await.map(|_| ()) })
        });
        let error = error.unwrap().join().unwrap();
        assert_eq!(error.as_ref().map_err(slaf_core::Error::kind), Err(ErrorKind::MemoryLimit), "{double}: {error:?}");
    }
}

#[tokio::test]
async fn guarded_functions_give_what_they_gave() {
    for (sql, expected) in [
        ("SELECT repeat('ab', 3)", "ababab"),
        ("SELECT lpad('a', 3, 'xy')", "xya"),
        ("SELECT 'a' || 1 || NULL", ""),
        ("SELECT s || '-' || n FROM t WHERE n = 7", "s7-7"),
        ("SELECT [1] || [2, 3]", "[1, 2, 3]"),
        ("SELECT array_repeat('a', 2)", "[a, a]"),
        ("SELECT array_resize([1, 2], 3, 0)", "[1, 2, 0]"),
        ("SELECT range(2, 8, 3)", "[2, 5]"),
        ("SELECT sum(x) FROM (SELECT unnest(range(n)) AS x FROM t)", "166167000"),
        ("SELECT count(*) FROM (SELECT s, unnest(range(200000)) AS x FROM t WHERE n < 5)", "1000000"),
        ("SELECT length(repeat(s, 10000)) FROM t WHERE n = 5", "20000"),
        ("SELECT sum(levenshtein(s, 's0')) FROM t WHERE n < 10", "9"),
        ("SELECT levenshtein(repeat('a', 500), repeat('b', 500))", "500"),
        (
            "SELECT max(m) FROM (SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS m FROM t)",
            "1997",
        ),
        ("SELECT first_value(n) OVER (ORDER BY n DESC) FROM t", "999"),
    ] {
        assert_eq!(text(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn long_work_is_done_in_parts() {
    // A part has a few rows of these.
    let sql = "SELECT sum(levenshtein(repeat(s, 20), repeat('s', 40))) FROM t WHERE n >= 100 AND n < 120";
    let (context, _, _) = session();
    let batches = run(&context, sql).await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 20 * 60);
}

#[tokio::test]
async fn results_count_as_long_as_they_live() {
    let (context, _, pool) = session();
    let batches = run(&context, "SELECT repeat(s, 1000) AS x FROM t").await.unwrap();
    assert!(pool.reserved() > 3_000_000, "{}", pool.reserved());
    let slice = batches[0].slice(1, 1);
    drop(batches);
    assert!(pool.reserved() > 3_000_000, "{}", pool.reserved());
    drop(slice);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn stopped_queries_end() {
    for sql in [
        "SELECT repeat(s, 2) FROM t",
        "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) FROM t",
        "SELECT n + 1 FROM t",
    ] {
        let (context, limits, _) = session();
        let frame = context.sql(sql).await.unwrap();
        limits.stop();
        let error = frame.collect().await.map_err(from_datafusion).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{sql}");
    }
    // Also one that was planned before.
    let (context, limits, _) = session();
    let sql = "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) FROM t";
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    limits.stop();
    let error =
        datafusion::physical_plan::collect(plan, context.task_ctx()).await.map_err(from_datafusion).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[tokio::test]
async fn patterns_that_are_too_large_are_the_querys_fault() {
    for function in ["regexp_like", "regexp_match", "regexp_count"] {
        let sql = format!("SELECT {function}(s, '(a{{1,1000}}){{1,1000}}') FROM t");
        let error = run(&session().0, &sql).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidQuery, "{sql}: {error}");
    }
    let error =
        run(&session().0, "SELECT count(*) FROM t WHERE s ~ '(a{1,1000}){1,1000}'").await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidQuery, "{error}");
}
