//! Values that are bound to `?`, `$1` or `$name`, and never become a part of the text.

use crate::walk::{walk, walk_mut};
use arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::sql::sqlparser::ast::{Expr, Statement, Value, Visitor, VisitorMut};
use slaf_core::{Error, ErrorKind, Result};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

/// A value for a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// A missing value.
    Null,
    /// `TRUE` or `FALSE`.
    Bool(bool),
    /// A whole number of 64 bits, signed or not, or one of at most 38 digits.
    Int(i128),
    /// A float of 64 bits.
    Float(f64),
    /// A text.
    Text(String),
    /// A value of a type that a text tells.
    Typed(ParameterType, String),
    /// For `IN $list`, `= ANY($list)`, and wherever an array may stand.
    List(Vec<Parameter>),
}

/// A whole number in the narrowest type.
fn whole(number: i128) -> ScalarValue {
    if let Ok(number) = i64::try_from(number) {
        ScalarValue::Int64(Some(number))
    } else if let Ok(number) = u64::try_from(number) {
        ScalarValue::UInt64(Some(number))
    } else {
        ScalarValue::Decimal128(Some(number), 38, 0)
    }
}

/// The type of a value that is handed over as a text, as SQL writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// `2026-01-31`.
    Date,
    /// `23:59:59.5`.
    Time,
    /// `2026-01-31 23:59:59.5`, without a zone.
    Timestamp,
    /// With a zone: `2026-01-31 23:59:59+01:00`.
    TimestampTz,
    /// `2 days 03:04:05`.
    Interval,
    /// Of as many digits as the text has.
    Decimal,
}

/// The values of a query's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Parameters {
    /// The query has none.
    #[default]
    None,
    /// For `?` in order of the text, or `$1`, `$2`, ...
    Positional(Vec<Parameter>),
    /// For `$name`.
    Named(Vec<(String, Parameter)>),
}

impl Parameter {
    /// The value for DataFusion; NULL for a list or a value of a type that a text tells, which goes into
    /// the place of its parameter.
    pub fn scalar(&self) -> ScalarValue {
        match self {
            Parameter::Null => ScalarValue::Null,
            Parameter::Bool(v) => ScalarValue::Boolean(Some(*v)),
            Parameter::Int(v) => whole(*v),
            Parameter::Float(v) => ScalarValue::Float64(Some(*v)),
            Parameter::Text(v) => ScalarValue::Utf8(Some(v.clone())),
            // Its parameter is gone: the value stands in its place.
            Parameter::Typed(..) | Parameter::List(_) => ScalarValue::Null,
        }
    }
}

impl Parameters {
    /// The list or typed value of `$1` or `$name`, which goes into the place of its parameter.
    pub(crate) fn in_place(&self, name: &str) -> Option<&Parameter> {
        self.value(name).filter(|value| matches!(value, Parameter::List(_) | Parameter::Typed(..)))
    }

    /// The value of `$1` or `$name`.
    pub fn value(&self, name: &str) -> Option<&Parameter> {
        let name = name.strip_prefix('$')?;
        match self {
            Parameters::None => None,
            Parameters::Positional(values) => values.get(name.parse::<usize>().ok()?.checked_sub(1)?),
            Parameters::Named(values) => values.iter().find(|(n, _)| n == name).map(|(_, value)| value),
        }
    }

    /// Checks that each parameter of a statement has a value and each value is used.
    pub(crate) fn check(&self, statement: &Statement) -> Result<()> {
        let used = placeholders(statement);
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
        match self {
            Parameters::None if used.is_empty() => Ok(()),
            Parameters::None => wrong(format!(
                "the query has the parameters {}: pass their values in Python (params=), or write them into the text",
                list(&used)
            )),
            Parameters::Positional(values) => {
                let expected: BTreeSet<String> = (1..=values.len()).map(|i| format!("${i}")).collect();
                if used != expected {
                    return wrong(format!("{} values for the parameters {}", values.len(), list(&used)));
                }
                Ok(())
            }
            Parameters::Named(values) => {
                let expected: BTreeSet<String> = values.iter().map(|(name, _)| format!("${name}")).collect();
                if used != expected {
                    return wrong(format!("values for {}, but the query has {}", list(&expected), list(&used)));
                }
                Ok(())
            }
        }
    }

    /// The values for DataFusion, if there are any.
    pub(crate) fn values(&self) -> Option<ParamValues> {
        match self {
            Parameters::None => None,
            Parameters::Positional(values) => Some(values.iter().map(Parameter::scalar).collect::<Vec<_>>().into()),
            Parameters::Named(values) => {
                let map: HashMap<String, ScalarValue> =
                    values.iter().map(|(name, value)| (name.clone(), value.scalar())).collect();
                Some(map.into())
            }
        }
    }

    /// The parameter, `$1` or `$name`, and type of each value; `None` if one of them goes into the place of its parameter,
    /// so that a plan has it.
    pub fn types(&self) -> Option<Vec<(String, DataType)>> {
        let of = |name: String, value: &Parameter| match value {
            Parameter::List(_) | Parameter::Typed(..) => None,
            value => Some((name, value.scalar().data_type())),
        };
        match self {
            Parameters::None => Some(Vec::new()),
            Parameters::Positional(values) => (1..).zip(values).map(|(i, value)| of(format!("${i}"), value)).collect(),
            Parameters::Named(values) => values.iter().map(|(name, value)| of(format!("${name}"), value)).collect(),
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "none".to_string() } else { names.iter().cloned().collect::<Vec<_>>().join(", ") }
}

fn placeholders(statement: &Statement) -> BTreeSet<String> {
    struct Find(BTreeSet<String>);
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(name) = &value.value
            {
                self.0.insert(name.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(BTreeSet::new());
    let _ = walk(statement, &mut find);
    find.0
}

/// Names every `?` by its place in the text: `$1`, `$2`, ...
pub(crate) fn number(statement: &mut Statement) {
    // The text's order: a visitor may come to a later clause first.
    struct Number<F>(F);
    impl<F: FnMut(&mut String, (u64, u64))> VisitorMut for Number<F> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(name) = &mut value.value
                && name == "?"
            {
                (self.0)(name, (value.span.start.line, value.span.start.column));
            }
            ControlFlow::Continue(())
        }
    }
    let mut places = Vec::new();
    let _ = walk_mut(statement, &mut Number(|_: &mut String, place| places.push(place)));
    places.sort_unstable();
    // One may stand in several places of an expression that was made of a function.
    places.dedup();
    let _ = walk_mut(
        statement,
        &mut Number(|name: &mut String, place| {
            *name = format!("${}", places.partition_point(|p| *p < place) + 1);
        }),
    );
}
