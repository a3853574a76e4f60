//! How much a call of a function makes, and how long it may take, told from its arguments.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit, UInt64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// What a function does with the sizes of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// The first argument as often as the second says.
    Times,
    /// As long as the second argument says, in characters.
    Pad,
    /// A list as long as the second argument says, of elements of the first or third.
    Resize,
    /// A list of steps.
    Range,
    /// All arguments together, that many times.
    Sum(u64),
    /// The third argument in place of the second, wherever that is in the first.
    Replace,
    /// The same for a pattern.
    ReplacePattern,
    /// The first argument, and the second between its elements.
    Join,
    /// Nothing, but the work is the product of the sizes.
    Product,
    /// Nothing, but each byte of the first argument is work.
    Pattern,
}

impl Growth {
    /// Of a function that needs to be looked at.
    pub(super) fn of(function: &str) -> Option<Growth> {
        Some(match function {
            "repeat" | "array_repeat" => Growth::Times,
            "lpad" | "rpad" => Growth::Pad,
            "array_resize" => Growth::Resize,
            "range" | "generate_series" => Growth::Range,
            "concat" | "concat_ws" | "||" | "array_concat" | "array_append" | "array_prepend" | "make_array"
            | "overlay" | "arrays_zip" | "array_union" | "map" => Growth::Sum(1),
            "encode" => Growth::Sum(2),
            // A view for each character; a whole date for a letter of the format.
            "string_to_array" | "to_char" => Growth::Sum(24),
            "array_to_string" => Growth::Join,
            "replace" | "array_replace" | "array_replace_n" | "array_replace_all" => Growth::Replace,
            "regexp_replace" => Growth::ReplacePattern,
            "levenshtein" => Growth::Product,
            "regexp_like" | "regexp_match" | "regexp_count" | "regexp_instr" => Growth::Pattern,
            _ => return None,
        })
    }

    /// At most how many bytes a call makes.
    pub(super) fn bytes(self, args: &ScalarFunctionArgs) -> DfResult<u128> {
        let rows = rows(args);
        let size = |i: usize| args.args.get(i).map_or_else(nothing, sizes);
        let count = |i: usize| args.args.get(i).map_or_else(|| Ok(counts_of(0)), counts);
        let sum = |each: &dyn Fn(usize) -> u128| (0..rows).fold(0_u128, |sum, row| sum.saturating_add(each(row)));
        Ok(match self {
            Growth::Times => {
                let (of, times) = (size(0), count(1)?);
                sum(&|row| u128::from(of(row)).saturating_mul(times(row)))
            }
            Growth::Pad => {
                let characters = count(1)?;
                sum(&|row| characters(row).saturating_mul(4))
            }
            Growth::Resize => {
                let (element, list, length) = (size(2), element_sizes(&args.args), count(1)?);
                sum(&|row| length(row).saturating_mul(u128::from(element(row).max(list))))
            }
            Growth::Range => steps(args)?.into_iter().fold(0, |sum, n| sum.saturating_add(n.saturating_mul(8))),
            Growth::Sum(times) => {
                let all: Vec<_> = args.args.iter().map(sizes).collect();
                sum(&|row| all.iter().map(|of| u128::from(of(row))).sum::<u128>().saturating_mul(times.into()))
            }
            Growth::Replace => {
                let (of, what, by) = (size(0), size(1), size(2));
                sum(&|row| {
                    let (of, what, by) = (u128::from(of(row)), u128::from(what(row)), u128::from(by(row)));
                    (of / what.max(1) + 1).saturating_mul(by).saturating_add(of)
                })
            }
            Growth::ReplacePattern => {
                let (of, by) = (size(0), size(2));
                // A replacement may name the whole match again and again.
                sum(&|row| {
                    let (of, by) = (u128::from(of(row)), u128::from(by(row)));
                    (of + 1).saturating_mul(by).saturating_add(of)
                })
            }
            Growth::Join => {
                let (list, between) = (size(0), size(1));
                sum(&|row| {
                    let list = u128::from(list(row));
                    list.saturating_mul(2).saturating_add(list.saturating_mul(u128::from(between(row))))
                })
            }
            Growth::Product | Growth::Pattern => 0,
        })
    }

    /// Steps of work of each row, where a batch may take long.
    pub(super) fn work(self, args: &ScalarFunctionArgs) -> Option<Vec<u64>> {
        let size = |i: usize| args.args.get(i).map_or_else(nothing, sizes);
        let (first, second) = (size(0), size(1));
        let each: &dyn Fn(usize) -> u64 = match self {
            Growth::Product => &|row| first(row).saturating_mul(second(row)),
            // A pattern has some hundred states at most before it is slow.
            Growth::Pattern | Growth::ReplacePattern => &|row| first(row).saturating_mul(second(row).max(1)),
            _ => return None,
        };
        Some((0..rows(args)).map(each).collect())
    }
}

/// Constants are computed once.
pub(super) fn rows(args: &ScalarFunctionArgs) -> usize {
    let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    if constant { 1 } else { args.number_rows }
}

type Sizes = Box<dyn Fn(usize) -> u64>;
type Counts = Box<dyn Fn(usize) -> u128>;

fn nothing() -> Sizes {
    Box::new(|_| 0)
}

fn counts_of(n: u128) -> Counts {
    Box::new(move |_| n)
}

/// The bytes of an argument in each row.
fn sizes(value: &ColumnarValue) -> Sizes {
    match value {
        ColumnarValue::Scalar(scalar) => {
            let bytes = scalar_bytes(scalar);
            Box::new(move |_| bytes)
        }
        ColumnarValue::Array(array) => array_sizes(array),
    }
}

fn scalar_bytes(scalar: &ScalarValue) -> u64 {
    match scalar {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, |text| text.len() as u64)
        }
        other => other.to_array().map_or(0, |array| bytes(&array)),
    }
}

/// The bytes that the rows of an array hold.
fn bytes(array: &ArrayRef) -> u64 {
    let data = array.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()) as u64
}

fn array_sizes(array: &ArrayRef) -> Sizes {
    let array = array.clone();
    match array.data_type() {
        DataType::Utf8 => Box::new(move |row| u64::from(array.as_string::<i32>().value_length(row).unsigned_abs())),
        DataType::LargeUtf8 => Box::new(move |row| array.as_string::<i64>().value_length(row).unsigned_abs()),
        DataType::Utf8View => Box::new(move |row| u64::from(array.as_string_view().views()[row] as u32)),
        DataType::List(_) => {
            let each = of_element(array.as_list::<i32>().values());
            Box::new(move |row| u64::from(array.as_list::<i32>().value_length(row).unsigned_abs()).saturating_mul(each))
        }
        DataType::LargeList(_) => {
            let each = of_element(array.as_list::<i64>().values());
            Box::new(move |row| array.as_list::<i64>().value_length(row).unsigned_abs().saturating_mul(each))
        }
        _ => {
            let each = of_element(&array);
            Box::new(move |_| each)
        }
    }
}

/// The mean size of an element, at least 1.
fn of_element(values: &ArrayRef) -> u64 {
    match values.data_type().primitive_width() {
        Some(width) => width as u64,
        None => bytes(values).div_ceil(values.len().max(1) as u64).max(1),
    }
}

/// The size of an element of the lists of the first argument.
fn element_sizes(args: &[ColumnarValue]) -> u64 {
    let lists = match args.first() {
        Some(ColumnarValue::Array(array)) => array.clone(),
        Some(ColumnarValue::Scalar(scalar)) => match scalar.to_array() {
            Ok(array) => array,
            Err(_) => return 8,
        },
        None => return 8,
    };
    match lists.data_type() {
        DataType::List(_) => of_element(lists.as_list::<i32>().values()),
        DataType::LargeList(_) => of_element(lists.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => of_element(lists.as_fixed_size_list().values()),
        _ => 8,
    }
}

/// A number of times, 0 where it is negative or missing.
fn counts(value: &ColumnarValue) -> DfResult<Counts> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let constant = matches!(value, ColumnarValue::Scalar(_));
    let at = move |row: usize| if constant { 0 } else { row };
    if array.data_type() == &DataType::UInt64 {
        return Ok(Box::new(move |row| {
            let row = at(row);
            if array.is_valid(row) { array.as_primitive::<UInt64Type>().value(row).into() } else { 0 }
        }));
    }
    let numbers = cast(&array, &DataType::Int64)?;
    Ok(Box::new(move |row| {
        let row = at(row);
        let n = if numbers.is_valid(row) { numbers.as_primitive::<Int64Type>().value(row) } else { 0 };
        n.max(0).unsigned_abs().into()
    }))
}

/// How many steps each row's range has.
fn steps(args: &ScalarFunctionArgs) -> DfResult<Vec<u128>> {
    let n = rows(args);
    let arrays = args.args.iter().map(|arg| arg.to_array(n)).collect::<Result<Vec<_>, _>>()?;
    let integers = arrays.iter().map(points).collect::<DfResult<Vec<_>>>()?;
    Ok((0..n)
        .map(|row| {
            let (start, stop, step) = match &integers[..] {
                [stop] => (0, stop[row], 1),
                [start, stop] => (start[row], stop[row], 1),
                [start, stop, step] => (start[row], stop[row], step[row]),
                _ => (0, 0, 1),
            };
            stop.abs_diff(start) / step.unsigned_abs().max(1) + 1
        })
        .collect())
}

/// Numbers as they are, points in time and intervals in nanoseconds; 0 where there is none.
fn points(array: &ArrayRef) -> DfResult<Vec<i128>> {
    const DAY: i128 = 86_400_000_000_000;
    if let Some(intervals) = array.as_primitive_opt::<IntervalMonthDayNanoType>() {
        let nanoseconds = intervals.iter().map(|interval| {
            interval
                .map_or(0, |i| i128::from(i.months) * 28 * DAY + i128::from(i.days) * DAY + i128::from(i.nanoseconds))
        });
        return Ok(nanoseconds.collect());
    }
    let scale = match array.data_type() {
        DataType::Date32 => DAY,
        DataType::Date64 => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1000,
        _ => 1,
    };
    let between = if array.data_type() == &DataType::Date32 { cast(array, &DataType::Int32)? } else { array.clone() };
    let numbers = cast(&between, &DataType::Int64)?;
    Ok(numbers.as_primitive::<Int64Type>().iter().map(|n| n.map_or(0, |n| i128::from(n) * scale)).collect())
}
