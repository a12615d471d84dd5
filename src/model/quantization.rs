//! Quantised folders: refused by the name of their method, before a tensor is read.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Refuses a model whose `config.json`, found at `path`, says that its weights are quantised.
///
/// # Errors
/// If it does: with the method, where it stands and what to do.
pub(super) fn refuse(path: &Path, json: &Value) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        let Some(settings) = json[key].as_object().filter(|it| !it.is_empty()) else { continue };
        let method = method(settings);
        return Err(Error::file(
            path,
            format!(
                "`{key}`: the weights are quantised by {}; expected f32, bf16 or f16. Take the \
                 full-precision model they were made of, or {}; where the weights are in full \
                 precision after all, remove `{key}`",
                described(&method, settings),
                way_out(&method)
            ),
        ));
    }
    Ok(())
}

/// Refuses weights whose names show that they are quantised though `config.json` does not say so.
///
/// # Errors
/// If they are: with the method where the names tell, and what to do.
pub(super) fn refuse_by_names<'a>(
    folder: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    /// What only quantised weights have beside them, and the method it belongs to.
    const MARKS: [(&str, &str); 8] = [
        (".quant_state.bitsandbytes__", "bitsandbytes"),
        (".SCB", "bitsandbytes"),
        (".qweight", "gptq or awq"),
        (".weight_scale_inv", "fp8"),
        (".weight_packed", "compressed-tensors"),
        (".weight_scale", "fp8 or compressed-tensors"),
        (".W_q", "hqq"),
        (".weight._data", "quanto"),
    ];
    for name in names {
        if let Some((mark, method)) = MARKS.iter().find(|(mark, _)| name.contains(mark)) {
            return Err(Error::file(
                folder,
                format!(
                    "the weights are quantised by {method}, as tensors such as `{name}` show (only \
                     such weights have `{mark}`); expected f32, bf16 or f16. Take the \
                     full-precision model they were made of, or {}",
                    way_out(method)
                ),
            ));
        }
    }
    Ok(())
}

fn method(settings: &Map<String, Value>) -> String {
    let is_set = |key: &str| settings.get(key) == Some(&Value::Bool(true));
    match settings.get("quant_method").or(settings.get("quant_algo")).and_then(Value::as_str) {
        Some(method) => method.to_owned(),
        None if is_set("load_in_4bit") || is_set("load_in_8bit") => "bitsandbytes".to_owned(),
        None => "a method it does not name".to_owned(),
    }
}

/// The method with what tells its variants apart.
fn described(method: &str, settings: &Map<String, Value>) -> String {
    let number = |key: &str| settings.get(key).and_then(Value::as_u64);
    let is_set = |key: &str| settings.get(key) == Some(&Value::Bool(true));
    let bits = match number("bits").or(number("w_bit")).or(number("nbits")) {
        Some(bits) => Some(bits),
        None if is_set("load_in_4bit") => Some(4),
        None if is_set("load_in_8bit") => Some(8),
        None => None,
    };
    match bits {
        Some(bits) => format!("{method} to {bits} bits"),
        None => method.to_owned(),
    }
}

/// How full-precision weights are made of them.
fn way_out(method: &str) -> String {
    let loaded = match method {
        "mxfp4" => "load it in transformers with quantization_config=Mxfp4Config(dequantize=True)",
        "fp8" => {
            "load it in transformers 5 with quantization_config=FineGrainedFP8Config(dequantize=True)"
        }
        "compressed-tensors" => {
            "load it in transformers with \
             quantization_config=CompressedTensorsConfig(run_compressed=False)"
        }
        "bitsandbytes" | "higgs" => "load it in transformers, call model.dequantize()",
        _ => "load it in transformers, call model.dequantize() where the method has it",
    };
    format!("dequantise them: {loaded} and write it with save_pretrained")
}
