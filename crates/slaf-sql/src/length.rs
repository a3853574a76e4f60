//! `length` of texts, and of lists: DataFusion's makes a text of a list and counts its characters.

use arrow::compute::cast;
use arrow::compute::kernels::length::length as lengths;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// `length` and `len`, over DataFusion's function for texts.
pub(crate) fn length(of_text: ScalarUDF) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    // DataFusion's names: a session that is made of another registers all functions anew, in any order.
    let mut aliases = of_text.aliases().to_vec();
    aliases.push("len".to_string());
    ScalarUDF::from(Length { of_text, signature, aliases })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    of_text: ScalarUDF,
    signature: Signature,
    aliases: Vec<String>,
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        self.of_text.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match types {
            [list] if is_list(list) => Ok(types.to_vec()),
            [_] => {
                let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
                let fields = fields_with_udf(&fields, &self.of_text)?;
                Ok(fields.iter().map(|f| f.data_type().clone()).collect())
            }
            _ => plan_err!("length takes one text or list"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types {
            [list] if is_list(list) => Ok(DataType::Int64),
            _ => self.of_text.inner().return_type(types),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if !args.args.iter().any(|arg| is_list(&arg.data_type())) {
            return self.of_text.inner().invoke_with_args(args);
        }
        let lists = ColumnarValue::values_to_arrays(&args.args)?;
        let n = cast(&lengths(&lists[0])?, &DataType::Int64)?;
        crate::answers::result(&args.args, n)
    }
}
