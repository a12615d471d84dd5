//! Values of Arrow's columns → JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTemporalType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, PrimitiveArray, RecordBatch, downcast_temporal_array};
use arrow_schema::DataType;
use serde_json::{Map, Value, json};

use crate::data::{Fields, Problem};

/// The columns that records are made of: what cannot be read there makes the row a bad one.
const OF_RECORDS: [&str; 14] = [
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "messages",
    "conversations",
    "text",
    "instruction",
    "input",
    "output",
    "question",
    "system",
    "response",
];

/// The fields of a row.
pub(super) fn fields(batch: &RecordBatch, row: usize) -> Result<Fields, Problem> {
    let mut fields = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let name = field.name();
        let value = match column.data_type() {
            // pandas has no other way to say that a number is missing.
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                number(column, row).unwrap_or(Value::Null)
            }
            _ => value(column, row, name)?,
        };
        fields.insert(name.clone(), value);
    }
    Ok(fields.into())
}

/// A value; `path` says where it stands.
fn value(array: &dyn Array, row: usize, path: &str) -> Result<Value, Problem> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            number(array, row).ok_or_else(|| {
                format!(
                    "`{path}`: expected a finite number, found NaN or infinity; correct or drop the record"
                )
            })?
        }
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => decimal(array, row),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => binary(array.as_binary::<i32>().value(row), path)?,
        DataType::LargeBinary => binary(array.as_binary::<i64>().value(row), path)?,
        DataType::BinaryView => binary(array.as_binary_view().value(row), path)?,
        DataType::FixedSizeBinary(_) => binary(array.as_fixed_size_binary().value(row), path)?,
        DataType::List(_) => list(&array.as_list::<i32>().value(row), path)?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), path)?,
        DataType::ListView(_) => list(&array.as_list_view::<i32>().value(row), path)?,
        DataType::LargeListView(_) => list(&array.as_list_view::<i64>().value(row), path)?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), path)?,
        DataType::Struct(_) => object(array, row, path)?,
        DataType::Map(..) => map(array, row, path)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = value(dictionary.keys(), row, path)?.as_u64().unwrap_or(u64::MAX);
            let key = usize::try_from(key).ok().filter(|it| *it < dictionary.values().len());
            value(dictionary.values(), key.ok_or_else(|| unreadable(array, path))?, path)?
        }
        DataType::RunEndEncoded(ends, _) => {
            let values = array.as_any_ree().values();
            let at = match ends.data_type() {
                DataType::Int16 => array.as_run::<Int16Type>().get_physical_index(row),
                DataType::Int32 => array.as_run::<Int32Type>().get_physical_index(row),
                _ => array.as_run::<Int64Type>().get_physical_index(row),
            };
            value(values, at, path)?
        }
        DataType::Union(..) => value(&array.as_union().value(row), 0, path)?,
        _ => downcast_temporal_array!(
            array => moment(array, row),
            _ => return Err(unreadable(array, path)),
        ),
    })
}

fn unreadable(array: &dyn Array, path: &str) -> Problem {
    format!(
        "`{path}`: expected text, numbers, lists or objects, found {}; drop the column, or write it as \
         strings",
        array.data_type()
    )
}

/// A number with a fraction, if it is finite.
fn number(array: &dyn Array, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    let number = match array.data_type() {
        DataType::Float16 => f64::from(array.as_primitive::<Float16Type>().value(row)),
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)),
        _ => array.as_primitive::<Float64Type>().value(row),
    };
    number.is_finite().then(|| number.into())
}

fn decimal(array: &dyn Array, row: usize) -> Value {
    let text = match array.data_type() {
        DataType::Decimal32(..) => array.as_primitive::<Decimal32Type>().value_as_string(row),
        DataType::Decimal64(..) => array.as_primitive::<Decimal64Type>().value_as_string(row),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        _ => array.as_primitive::<Decimal256Type>().value_as_string(row),
    };
    match serde_json::from_str(&text) {
        // An integer too large for 64 bits keeps its digits as a text.
        Ok(Value::Number(number)) if text.contains('.') || !number.is_f64() => number.into(),
        _ => Value::String(text),
    }
}

/// Bytes that are text, as old writers of Parquet leave it. Others are refused where records are made
/// of them, and elsewhere stand for what they are.
fn binary(bytes: &[u8], path: &str) -> Result<Value, Problem> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(text.into());
    }
    let column = path.split(['.', '[']).next().unwrap_or(path);
    match OF_RECORDS.contains(&column) {
        true => Err(format!(
            "`{path}`: expected text, found {} bytes of binary data; write the column as strings",
            bytes.len()
        )),
        false => Ok(json!({ "bytes": bytes.len() })),
    }
}

fn list(items: &dyn Array, path: &str) -> Result<Value, Problem> {
    (0..items.len()).map(|row| value(items, row, &format!("{path}[{row}]"))).collect()
}

fn object(array: &dyn Array, row: usize, path: &str) -> Result<Value, Problem> {
    let array = array.as_struct();
    let mut object = Map::new();
    for (field, column) in array.fields().iter().zip(array.columns()) {
        let name = field.name();
        object.insert(name.clone(), value(column, row, &format!("{path}.{name}"))?);
    }
    Ok(object.into())
}

fn map(array: &dyn Array, row: usize, path: &str) -> Result<Value, Problem> {
    let entries = array.as_map().value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    let mut object = Map::new();
    for entry in 0..entries.len() {
        let key = match value(keys, entry, path)? {
            Value::String(key) => key,
            key => key.to_string(),
        };
        let inner = format!("{path}.{key}");
        object.insert(key, value(values, entry, &inner)?);
    }
    Ok(object.into())
}

/// A date or time as ISO 8601 writes it, without a zone.
fn moment<T: ArrowTemporalType>(array: &PrimitiveArray<T>, row: usize) -> Value
where
    i64: From<T::Native>,
{
    let text = match T::DATA_TYPE {
        DataType::Time32(_) | DataType::Time64(_) => {
            array.value_as_time(row).map(|it| it.to_string())
        }
        DataType::Date32 | DataType::Date64 => array.value_as_date(row).map(|it| it.to_string()),
        DataType::Duration(_) => array.value_as_duration(row).map(|it| it.to_string()),
        _ => array.value_as_datetime(row).map(|it| format!("{it:?}")),
    };
    text.map_or(Value::Null, Value::from)
}
