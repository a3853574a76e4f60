//! One step of arithmetic on the values of a part of a matrix.

use super::logarithms::{expm1, log1p};
use slaf_core::{CsrChunk, Dtype, Error, Result, Value, Values, with_dtype, with_values};
use std::cell::Cell;

/// What becomes of every value.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Another type, as numpy's `astype`.
    Cast(Dtype),
    /// Whole numbers in int64, an error where one does not fit.
    Widen,
    /// A function of the value alone.
    Map(Function),
    /// The value and a number of its row, of its column, or of all.
    Combine {
        /// What is done with the two.
        op: Op,
        /// The number beside the value.
        operand: Operand,
        /// If given, one entry for each row of the matrix: other rows stay as they are.
        rows: Option<Vec<bool>>,
    },
    /// Stores every zero, for steps that do not leave zero at zero.
    Densify,
    /// Stores no zero, as SciPy's comparisons.
    Sparsify,
    /// Subtracts `left @ right`, computed in f64: `left` is rows x `k`, `right` is `k` x columns,
    /// both row-major. The residuals of a regression, for one.
    SubtractProduct {
        /// rows x `k`.
        left: Vec<f64>,
        /// `k` x columns.
        right: Vec<f64>,
        /// The length that both share.
        k: usize,
    },
}

/// Functions that leave zero at zero. All but the first four need a float type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `-x`.
    Negative,
    /// `|x|`.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// `x * x`.
    Square,
    /// The square root.
    Sqrt,
    /// `ln(1 + x)`.
    Log1p,
    /// `exp(x) - 1`.
    Expm1,
    /// The next integer below.
    Floor,
    /// The next integer above.
    Ceil,
    /// The nearest integer, the even one of two.
    Rint,
    /// The next integer towards zero.
    Trunc,
}

/// Operations of two numbers, the value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `x + y`.
    Add,
    /// `x - y`.
    Subtract,
    /// `x * y`.
    Multiply,
    /// `x / y`.
    Divide,
    /// `x` to the power of `y`.
    Power,
    /// NaN if one is NaN, as numpy has it; so is `Maximum`.
    Minimum,
    /// The larger one.
    Maximum,
    /// This and the following give bool.
    Equal,
    /// `x != y`.
    NotEqual,
    /// `x < y`.
    Less,
    /// `x <= y`.
    LessEqual,
    /// `x > y`.
    Greater,
    /// `x >= y`.
    GreaterEqual,
}

slaf_core::names!(Function, "function of values", {
    Negative => "negative",
    Abs => "absolute",
    Sign => "sign",
    Square => "square",
    Sqrt => "sqrt",
    Log1p => "log1p",
    Expm1 => "expm1",
    Floor => "floor",
    Ceil => "ceil",
    Rint => "rint",
    Trunc => "trunc",
});

slaf_core::names!(Op, "operation", {
    Add => "add",
    Subtract => "subtract",
    Multiply => "multiply",
    Divide => "divide",
    Power => "power",
    Minimum => "minimum",
    Maximum => "maximum",
    Equal => "equal",
    NotEqual => "not_equal",
    Less => "less",
    LessEqual => "less_equal",
    Greater => "greater",
    GreaterEqual => "greater_equal",
});

impl Op {
    pub(super) fn is_comparison(self) -> bool {
        matches!(self, Op::Equal | Op::NotEqual | Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual)
    }

    /// Whether zero stays zero with each of these numbers. Multiplying and dividing leave what is
    /// not stored, as in SciPy.
    pub fn keeps_zeros(self, with: &Values) -> bool {
        fn all<T: Value>(op: Op, with: &[T]) -> bool {
            with.iter().all(|x| op.keeps_zero(x.as_f64()))
        }
        with_values!(with, v => all(self, v))
    }

    /// Whether what is not stored may be left alone: of products, quotients and powers it is not
    /// looked at, as in SciPy.
    pub(super) fn leaves_zeros(self, with: &Values) -> bool {
        self == Op::Power || self.keeps_zeros(with)
    }

    fn keeps_zero(self, with: f64) -> bool {
        match self {
            Op::Multiply | Op::Divide => true,
            Op::Add | Op::Subtract | Op::NotEqual => with == 0.0,
            Op::Power => with > 0.0,
            Op::Minimum => with >= 0.0,
            Op::Maximum => with <= 0.0,
            Op::Equal => with != 0.0,
            Op::Less => with <= 0.0 || with.is_nan(),
            Op::LessEqual => with < 0.0 || with.is_nan(),
            Op::Greater => with >= 0.0 || with.is_nan(),
            Op::GreaterEqual => with > 0.0 || with.is_nan(),
        }
    }
}

/// The second number of an operation. Its type is that of the matrix; or f64 beside a matrix of
/// f32, which is computed in f64 and rounded, as numpy does in place.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// One for all: a single value.
    Scalar(Values),
    /// One for each row.
    Rows(Values),
    /// One for each column.
    Columns(Values),
}

impl Operand {
    pub(super) fn values(&self) -> &Values {
        match self {
            Operand::Scalar(v) | Operand::Rows(v) | Operand::Columns(v) => v,
        }
    }
}

/// A part of a matrix and where its rows are.
pub(super) struct Place {
    pub(super) first_row: usize,
    pub(super) n_cols: usize,
}

impl Step {
    /// The type after this step.
    pub(super) fn dtype(&self, before: Dtype) -> Dtype {
        match self {
            Step::Cast(dtype) => *dtype,
            Step::Widen => Dtype::I64,
            Step::Combine { op, .. } if op.is_comparison() => Dtype::Bool,
            _ => before,
        }
    }

    pub(super) fn apply(&self, chunk: CsrChunk, place: &Place) -> Result<CsrChunk> {
        let CsrChunk { indptr, indices, values } = chunk;
        let values = match self {
            Step::Cast(dtype) => cast(values, *dtype),
            Step::Widen => widen(values)?,
            Step::Map(function) => map(values, *function)?,
            Step::Combine { op, operand, rows } => {
                let at = At { indptr: &indptr, indices: &indices, place, rows: rows.as_deref() };
                combine(values, *op, operand, &at)?
            }
            Step::Sparsify => return Ok(sparsify(CsrChunk { indptr, indices, values })),
            Step::Densify => return Ok(densify(&CsrChunk { indptr, indices, values }, place.n_cols)),
            Step::SubtractProduct { left, right, k } => {
                let at = At { indptr: &indptr, indices: &indices, place, rows: None };
                subtract_product(values, left, right, *k, &at)?
            }
        };
        Ok(CsrChunk { indptr, indices, values })
    }
}

fn mismatch(what: &str, dtype: Dtype) -> Error {
    Error::invalid(format!("{what} of {dtype} values: cast them first"))
}

fn cast(values: Values, dtype: Dtype) -> Values {
    fn to_float<S: Value>(values: &[S], dtype: Dtype) -> Values {
        match dtype {
            Dtype::F32 => Values::F32(values.iter().map(|v| v.as_f64() as f32).collect()),
            _ => Values::F64(values.iter().map(|v| v.as_f64()).collect()),
        }
    }
    let from = values.dtype();
    if from == dtype {
        return values;
    }
    // 64-bit integers would be rounded twice on their way to f32.
    if dtype.is_float() && (from.size() < 8 || from == Dtype::F64 || dtype == Dtype::F64) {
        return with_values!(&values, v => to_float(v, dtype));
    }
    values.cast(dtype)
}

fn widen(values: Values) -> Result<Values> {
    match values {
        Values::U64(v) => {
            let wide: Result<_, _> = v.into_iter().map(i64::try_from).collect();
            Ok(Values::I64(wide.map_err(|_| overflow())?))
        }
        values if values.dtype().is_float() => Err(mismatch("whole numbers", values.dtype())),
        values => Ok(values.cast(Dtype::I64)),
    }
}

macro_rules! each {
    ($v:expr, $f:expr) => {{
        let mut v = $v;
        v.iter_mut().for_each(|x| *x = $f(*x));
        v
    }};
}

macro_rules! map_float {
    ($v:expr, $t:ty, $function:expr) => {
        match $function {
            Function::Negative => each!($v, |x: $t| -x),
            Function::Abs => each!($v, <$t>::abs),
            Function::Sign => each!($v, |x: $t| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
            Function::Square => each!($v, |x: $t| x * x),
            Function::Sqrt => each!($v, <$t>::sqrt),
            Function::Log1p => each!($v, <$t>::ln_1p),
            Function::Expm1 => each!($v, <$t>::exp_m1),
            Function::Floor => each!($v, <$t>::floor),
            Function::Ceil => each!($v, <$t>::ceil),
            Function::Rint => each!($v, <$t>::round_ties_even),
            Function::Trunc => each!($v, <$t>::trunc),
        }
    };
}

fn map(values: Values, function: Function) -> Result<Values> {
    Ok(match values {
        Values::F32(mut v) if function == Function::Log1p => {
            log1p(&mut v);
            Values::F32(v)
        }
        Values::F32(mut v) if function == Function::Expm1 => {
            expm1(&mut v);
            Values::F32(v)
        }
        Values::F32(v) => Values::F32(map_float!(v, f32, function)),
        Values::F64(v) => Values::F64(map_float!(v, f64, function)),
        Values::I64(v) => {
            let f: fn(i64) -> Option<i64> = match function {
                Function::Negative => i64::checked_neg,
                Function::Abs => i64::checked_abs,
                Function::Sign => |x| Some(x.signum()),
                Function::Square => |x| x.checked_mul(x),
                _ => return Err(mismatch("this function", Dtype::I64)),
            };
            Values::I64(v.into_iter().map(|x| f(x).ok_or_else(overflow)).collect::<Result<_>>()?)
        }
        other => return Err(mismatch("a function", other.dtype())),
    })
}

fn overflow() -> Error {
    Error::invalid("an integer overflows int64: cast the matrix to float64 first")
}

/// Where each value of a part is.
struct At<'a> {
    indptr: &'a [u64],
    indices: &'a [u32],
    place: &'a Place,
    rows: Option<&'a [bool]>,
}

impl At<'_> {
    /// The rows that change: their number in the matrix and the places of their values.
    fn rows(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let ranges = self.indptr.windows(2).map(|w| w[0] as usize..w[1] as usize);
        let numbered = ranges.enumerate().map(|(i, range)| (self.place.first_row + i, range));
        numbered.filter(|(row, _)| self.rows.is_none_or(|rows| rows[*row]))
    }

    /// Calls `f` with each value that changes, its place, and the other number.
    fn each<U: Value>(&self, operand: &Operand, mut f: impl FnMut(usize, U)) -> Result<()> {
        let others = U::unwrap_ref(operand.values()).ok_or_else(|| mismatch("an operand", operand.values().dtype()))?;
        for (row, range) in self.rows() {
            match operand {
                Operand::Scalar(_) => range.for_each(|i| f(i, others[0])),
                Operand::Rows(_) => range.for_each(|i| f(i, others[row])),
                Operand::Columns(_) => range.for_each(|i| f(i, others[self.indices[i] as usize])),
            }
        }
        Ok(())
    }
}

macro_rules! float_op {
    ($op:expr, $t:ty, $run:ident) => {
        match $op {
            Op::Add => $run!(|a: $t, b: $t| a + b),
            Op::Subtract => $run!(|a: $t, b: $t| a - b),
            Op::Multiply => $run!(|a: $t, b: $t| a * b),
            Op::Divide => $run!(|a: $t, b: $t| a / b),
            Op::Power => $run!(<$t>::powf),
            Op::Minimum => $run!(|a: $t, b: $t| if a < b || a.is_nan() { a } else { b }),
            Op::Maximum => $run!(|a: $t, b: $t| if a > b || a.is_nan() { a } else { b }),
            op => return Err(Error::invalid(format!("{op:?} gives no number"))),
        }
    };
}

fn combine(values: Values, op: Op, operand: &Operand, at: &At<'_>) -> Result<Values> {
    if op.is_comparison() {
        return compare(&values, op, operand, at);
    }
    match (values, operand.values().dtype()) {
        (Values::F32(mut v), Dtype::F32) => {
            macro_rules! run {
                ($f:expr) => {
                    at.each(operand, |i, b: f32| v[i] = $f(v[i], b))?
                };
            }
            float_op!(op, f32, run);
            Ok(Values::F32(v))
        }
        (Values::F32(mut v), Dtype::F64) => {
            macro_rules! run {
                ($f:expr) => {
                    at.each(operand, |i, b: f64| v[i] = $f(f64::from(v[i]), b) as f32)?
                };
            }
            float_op!(op, f64, run);
            Ok(Values::F32(v))
        }
        (Values::F64(mut v), Dtype::F64) => {
            macro_rules! run {
                ($f:expr) => {
                    at.each(operand, |i, b: f64| v[i] = $f(v[i], b))?
                };
            }
            float_op!(op, f64, run);
            Ok(Values::F64(v))
        }
        (Values::I64(mut v), Dtype::I64) => {
            let f: fn(i64, i64) -> Option<i64> = match op {
                Op::Add => i64::checked_add,
                Op::Subtract => i64::checked_sub,
                Op::Multiply => i64::checked_mul,
                Op::Minimum => |a, b| Some(a.min(b)),
                Op::Maximum => |a, b| Some(a.max(b)),
                Op::Power => |a, b| a.checked_pow(u32::try_from(b).ok()?),
                _ => return Err(mismatch("this operation", Dtype::I64)),
            };
            let fits = Cell::new(true);
            at.each(operand, |i, b: i64| match f(v[i], b) {
                Some(result) => v[i] = result,
                None => fits.set(false),
            })?;
            if fits.get() { Ok(Values::I64(v)) } else { Err(overflow()) }
        }
        (values, other) => Err(mismatch(&format!("arithmetic with {other}"), values.dtype())),
    }
}

fn compare(values: &Values, op: Op, operand: &Operand, at: &At<'_>) -> Result<Values> {
    fn of<T: Value>(v: &[T], op: Op, operand: &Operand, at: &At<'_>) -> Result<Vec<bool>> {
        let mut out: Vec<bool> = v.iter().map(|x| *x != T::default()).collect();
        macro_rules! run {
            ($f:expr) => {
                at.each(operand, |i, b: T| out[i] = $f(&v[i], &b))?
            };
        }
        match op {
            Op::Equal => run!(T::eq),
            Op::NotEqual => run!(T::ne),
            Op::Less => run!(T::lt),
            Op::LessEqual => run!(T::le),
            Op::Greater => run!(T::gt),
            _ => run!(T::ge),
        }
        Ok(out)
    }
    with_values!(values, v => Ok(Values::Bool(of(v, op, operand, at)?)))
}

fn densify(chunk: &CsrChunk, n_cols: usize) -> CsrChunk {
    let n = chunk.n_rows();
    let values = with_dtype!(chunk.values.dtype(), T => {
        let mut dense = vec![T::default(); n * n_cols];
        if let Some(values) = T::unwrap_ref(&chunk.values) {
            for i in 0..n {
                let row = &mut dense[i * n_cols..(i + 1) * n_cols];
                chunk.row(i).for_each(|at| row[chunk.indices[at] as usize] = values[at]);
            }
        }
        T::wrap(dense)
    });
    CsrChunk {
        indptr: (0..=n).map(|i| (i * n_cols) as u64).collect(),
        indices: (0..n).flat_map(|_| 0..n_cols as u32).collect(),
        values,
    }
}

fn sparsify(chunk: CsrChunk) -> CsrChunk {
    fn kept<T: Value>(v: &[T]) -> Vec<bool> {
        v.iter().map(|x| *x != T::default()).collect()
    }
    let keep = with_values!(&chunk.values, v => kept(v));
    if keep.iter().all(|keep| *keep) {
        return chunk;
    }
    let mut indptr = Vec::with_capacity(chunk.indptr.len());
    let mut stored = 0;
    indptr.push(0);
    for i in 0..chunk.n_rows() {
        stored += chunk.row(i).filter(|at| keep[*at]).count() as u64;
        indptr.push(stored);
    }
    let at: Vec<usize> = keep.iter().enumerate().filter_map(|(at, keep)| keep.then_some(at)).collect();
    let indices = at.iter().map(|at| chunk.indices[*at]).collect();
    let values = with_values!(&chunk.values, v => Value::wrap(at.iter().map(|at| v[*at]).collect()));
    CsrChunk { indptr, indices, values }
}

fn subtract_product(values: Values, left: &[f64], right: &[f64], k: usize, at: &At<'_>) -> Result<Values> {
    let n_cols = at.place.n_cols;
    let mut product = vec![0.0; n_cols];
    let mut of_row = |row: usize| {
        product.fill(0.0);
        for (j, &l) in left[row * k..(row + 1) * k].iter().enumerate() {
            product.iter_mut().zip(&right[j * n_cols..(j + 1) * n_cols]).for_each(|(p, r)| *p += l * r);
        }
        product.clone()
    };
    match values {
        Values::F64(mut v) => {
            for (row, range) in at.rows() {
                let product = of_row(row);
                range.for_each(|i| v[i] -= product[at.indices[i] as usize]);
            }
            Ok(Values::F64(v))
        }
        Values::F32(mut v) => {
            for (row, range) in at.rows() {
                let product = of_row(row);
                range.for_each(|i| v[i] = (f64::from(v[i]) - product[at.indices[i] as usize]) as f32);
            }
            Ok(Values::F32(v))
        }
        other => Err(mismatch("a product subtracted", other.dtype())),
    }
}

/// Applies steps in a row.
pub(super) fn apply_all(steps: &[Step], chunk: CsrChunk, place: &Place) -> Result<CsrChunk> {
    steps.iter().try_fold(chunk, |chunk, step| step.apply(chunk, place))
}
