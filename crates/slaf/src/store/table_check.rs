//! Whether an opened table is the one that the root manifest describes: its files, its columns and
//! their types.

use crate::store::fields::{array_fields, frame_fields};
use crate::store::manifest::{Manifest, Slot};
use crate::store::schema;
use crate::store::table_name::TableName;
use arrow::datatypes::Field;
use slaf_core::{Error, Result};
use slaf_ingest::Axis;
use slaf_lance::Table;
use std::collections::HashSet;

/// Compares without reading anything.
///
/// # Errors
/// `corrupt` that names a file or a column.
pub(crate) fn check(manifest: &Manifest, name: TableName, table: &Table) -> Result<()> {
    let files: HashSet<&str> = manifest.files.iter().map(|f| f.path.as_str()).collect();
    if let Some(other) = table.data_files()?.iter().find(|f| !files.contains(f.as_str())) {
        return Err(Error::corrupt(format!("{other} is no file of this version")));
    }
    for field in fields(manifest, name)? {
        let found = table.arrow_field(field.name())?;
        if !found.data_type().equals_datatype(field.data_type()) {
            let (is, not) = (found.data_type(), field.data_type());
            return Err(Error::corrupt(format!("column {} holds {is}, not {not}", field.name())));
        }
    }
    Ok(())
}

/// The columns that a table has, as far as they are read.
fn fields(manifest: &Manifest, name: TableName) -> Result<Vec<Field>> {
    let (axis, in_genes) = match name {
        TableName::Cells => (Axis::Cells, false),
        TableName::Genes => (Axis::Genes, true),
        TableName::ByGene => return Ok(schema::by_gene_schema().fields().iter().map(|f| f.as_ref().clone()).collect()),
        TableName::RawGenes => {
            let mut fields = schema::raw_gene_fields();
            fields.extend(manifest.raw_var.iter().map(frame_fields).collect::<Vec<_>>().concat());
            return Ok(fields);
        }
    };
    let (mut fields, frame) = match in_genes {
        false => (schema::cell_fields(), &manifest.obs),
        true => (schema::gene_fields(), &manifest.var),
    };
    fields.extend(frame_fields(frame));
    fields.extend(array_fields(manifest.arrays.iter().filter(|a| a.axis == axis)));
    let packed = manifest.matrices.iter().filter(|m| (m.slot == Slot::Varp) == in_genes);
    fields.extend(packed.map(|m| schema::packed_field(&m.column)));
    Ok(fields)
}
