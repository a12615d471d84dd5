//! Names of classes, which datasets keep beside a column of numbers: in the metadata of a schema, under
//! `huggingface`.

use arrow_schema::Metadata;
use serde_json::Value;

use crate::data::Fields;

/// What columns of a sentiment are called.
const SENTIMENTS: [&str; 3] = ["label", "labels", "sentiment"];

/// Columns of classes of which one is negative and another positive: what each number stands for.
pub(super) struct Classes(Vec<(&'static str, Vec<Value>)>);

impl Classes {
    /// Reads the metadata of a schema.
    pub fn of(metadata: &Metadata) -> Self {
        let written = metadata.get("huggingface").and_then(|it| serde_json::from_str(it).ok());
        let written: Value = written.unwrap_or_default();
        let names = |column: &str| {
            let feature = &written["info"]["features"][column];
            feature["names"].as_array().filter(|_| feature["_type"] == "ClassLabel").cloned()
        };
        let columns = SENTIMENTS.into_iter().filter_map(|column| {
            let values: Vec<Value> = names(column)?.into_iter().map(value).collect();
            let is_sentiment = [0, 1].iter().all(|it| values.contains(&Value::from(*it)));
            is_sentiment.then_some((column, values))
        });
        Self(columns.collect())
    }

    /// Writes 0 for the negative class, 1 for the positive one, and the names of others, whatever their numbers.
    pub fn name(&self, fields: &mut Fields) {
        for (name, value) in fields.values_mut() {
            let Some((_, values)) = self.0.iter().find(|(column, _)| column == name) else {
                continue;
            };
            let number = value.as_u64().and_then(|it| usize::try_from(it).ok());
            if let Some(class) = number.and_then(|it| values.get(it)) {
                *value = class.clone();
            }
        }
    }
}

/// The value of a class by its name.
fn value(name: Value) -> Value {
    match name.as_str().unwrap_or_default().to_lowercase().as_str() {
        "neg" | "negative" => Value::from(0),
        "pos" | "positive" => Value::from(1),
        _ => name,
    }
}
