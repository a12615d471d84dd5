//! Tests of how `config.json` is read: the notations of several versions give the same model, and a setting
//! that would change a number is used, or refused by its name.

use std::path::Path;

use serde_json::{Value, json};

use super::Family;
use crate::Result;
use crate::model::config::{DecoderConfig, PositionEncoding, RotaryConfig, RotaryScaling};

fn shape(config: &Value) -> Result<DecoderConfig> {
    let path = Path::new("config.json");
    Family::of(path, config)?.shape(path, config)
}

fn changed(mut config: Value, change: Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn llama(change: Value) -> Value {
    let plain = json!({
        "model_type": "llama", "vocab_size": 9, "hidden_size": 16, "intermediate_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    });
    changed(plain, change)
}

fn gpt_neox(change: Value) -> Value {
    let plain = json!({
        "model_type": "gpt_neox", "vocab_size": 9, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 2,
    });
    changed(plain, change)
}

fn rotary(config: Value) -> RotaryConfig {
    match shape(&config).unwrap().position_encoding {
        PositionEncoding::Rotary(rotary) => rotary,
        PositionEncoding::Learned => panic!("learned"),
    }
}

fn refusal(config: Value) -> String {
    shape(&config).unwrap_err().to_string()
}

#[test]
fn the_spellings_of_versions_4_and_5_are_the_same_positions() {
    let yarn =
        json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128 });
    let with = |more: Value| changed(yarn.clone(), more);
    let old = rotary(llama(json!({ "rope_theta": 5e5, "rope_scaling": yarn })));
    assert_eq!(old.base, 5e5);
    for new in [
        json!({ "rope_parameters": with(json!({ "rope_theta": 5e5 })) }),
        // A number in the object before the one beside it, and that before the default.
        json!({ "rope_parameters": with(json!({ "rope_theta": 5e5 })), "rope_theta": 7.0 }),
        json!({ "rope_parameters": yarn, "rope_theta": 5e5, "rope_scaling": null }),
        json!({ "rope_parameters": with(json!({ "rope_theta": null })), "rope_theta": 5e5 }),
        json!({ "rope_parameters": { "full_attention": with(json!({ "rope_theta": 5e5 })) } }),
        // The old object, where it has anything, before the new one.
        json!({ "rope_scaling": yarn, "rope_theta": 5e5,
            "rope_parameters": { "rope_type": "linear", "factor": 2.0, "rope_theta": 7.0 } }),
    ] {
        assert_eq!(rotary(llama(new.clone())), old, "{new}");
    }
    let by_key = rotary(gpt_neox(json!({ "rotary_pct": 0.5, "rotary_emb_base": 300 })));
    let parameters = json!({ "partial_rotary_factor": 0.5, "rope_theta": 300.0 });
    assert_eq!(rotary(gpt_neox(json!({ "rope_parameters": parameters }))), by_key);
    assert_eq!((by_key.width, by_key.base), (8, 300.0));
}

#[test]
fn a_kind_of_scaling_is_refused_under_the_key_it_stands_under() {
    let kind =
        |key: &str, name: &str| refusal(llama(json!({ key: { name: "mrope", "factor": 2.0 } })));
    insta::assert_snapshot!(kind("rope_scaling", "type"), @r#"config.json: `rope_scaling.type`: "mrope" is not supported, only default, linear, dynamic (up to max_position_embeddings), llama3, yarn and longrope; take a model whose positions are of one of these kinds"#);
    assert!(
        kind("rope_parameters", "rope_type").contains("`rope_parameters.rope_type`: \"mrope\"")
    );
    for (scaling, key) in [
        (json!({ "rope_type": "linear" }), "factor"),
        (json!({ "rope_type": "yarn" }), "factor"),
        (json!({ "rope_type": "llama3", "factor": 8.0 }), "low_freq_factor"),
        (json!({ "rope_type": "longrope", "factor": 2.0, "long_factor": [1.0] }), "short_factor"),
        (json!({ "rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] }), "short_factor"),
        (json!({ "factor": 2.0 }), "rope_type"),
        (json!({ "rope_type": "default", "type": "linear", "factor": 2.0 }), "rope_type"),
        (json!({ "rope_type": "default", "rope_theta": 7.0 }), "rope_theta"),
    ] {
        let said = refusal(llama(json!({ "rope_scaling": scaling })));
        assert!(said.starts_with(&format!("config.json: `rope_scaling.{key}`: ")), "{said}");
    }
    let layers = json!({ "full_attention": { "rope_theta": 7.0 }, "sliding_attention": { "rope_theta": 9.0 } });
    let said = refusal(llama(json!({ "rope_parameters": layers })));
    assert!(said.contains("`rope_parameters.sliding_attention`: differs"), "{said}");
}

#[test]
fn long_rope_reaches_to_the_pretrainings_context() {
    let scaling =
        json!({ "rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0] });
    let config = llama(json!({ "rope_scaling": scaling, "original_max_position_embeddings": 128 }));
    assert_eq!(shape(&config).unwrap().max_positions, 128);
    let RotaryScaling::LongRope { factors, attention_factor } = rotary(config).scaling else {
        panic!("another scaling");
    };
    assert_eq!(factors, [1.0, 2.0]);
    let expected = (1.0 + 4f64.ln() / 128f64.ln()).sqrt();
    assert!((attention_factor - expected).abs() < 1e-12);
}

#[test]
fn a_scaling_lengthens_the_context_even_where_the_positions_were_left_as_they_were() {
    let reach =
        |scaling: Value| shape(&llama(json!({ "rope_scaling": scaling }))).unwrap().max_positions;
    assert_eq!(reach(json!({ "rope_type": "linear", "factor": 4.0 })), 2048);
    let yarn = |original: usize| json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original });
    assert_eq!(reach(yarn(512)), 2048);
    assert_eq!(reach(yarn(128)), 512); // as lengthened as it says already
    assert_eq!(reach(json!({ "rope_type": "yarn", "factor": 3.0 })), 1536);
    let dynamic = json!({ "rope_type": "dynamic", "factor": 4.0 });
    assert_eq!(reach(dynamic), 512); // beyond, its frequencies depend on the sequence's length
}

#[test]
fn a_window_counts_where_a_layer_has_it() {
    let qwen = |change: Value| {
        let plain = llama(json!({ "model_type": "qwen2", "sliding_window": 64 }));
        shape(&changed(plain, change)).map(|it| it.max_positions)
    };
    let slides = |kinds: Value| json!({ "use_sliding_window": true, "layer_types": kinds });
    assert_eq!(qwen(json!({})).unwrap(), 512);
    assert_eq!(qwen(json!({ "use_sliding_window": true })).unwrap(), 512);
    let late = json!({ "use_sliding_window": true, "max_window_layers": 1 });
    assert_eq!(qwen(late).unwrap(), 64);
    assert_eq!(qwen(slides(json!(["full_attention", "full_attention"]))).unwrap(), 512);
    assert_eq!(qwen(slides(json!(["full_attention", "sliding_attention"]))).unwrap(), 64);
    let window = |window: usize| {
        let mistral = json!({ "model_type": "mistral", "sliding_window": window });
        let shape = shape(&llama(mistral)).unwrap();
        (shape.max_positions, shape.window)
    };
    assert_eq!(window(64), (64, Some(64)));
    assert_eq!(window(512), (512, None));
    for kinds in [json!(["sliding_attention"]), json!(["chunked_attention"])] {
        let said = qwen(json!({ "layer_types": kinds })).unwrap_err().to_string();
        assert!(said.starts_with("config.json: `layer_types`: "), "{said}");
    }
}

#[test]
fn a_missing_setting_is_that_of_its_class_and_null_may_be_another() {
    let shape_of = |model_type: &str, heads: Value| {
        let mut config = llama(json!({ "model_type": model_type, "num_attention_heads": 32,
            "hidden_size": 64, "head_dim": 4 }));
        config.as_object_mut().unwrap().remove("num_key_value_heads");
        shape(&changed(config, heads)).unwrap()
    };
    let null = json!({ "num_key_value_heads": null });
    for (model_type, missing) in [("llama", 32), ("mistral", 8), ("qwen2", 32), ("glm", 2)] {
        assert_eq!(shape_of(model_type, json!({})).num_kv_heads, missing, "{model_type}");
        assert_eq!(shape_of(model_type, null.clone()).num_kv_heads, 32, "{model_type}");
    }
    assert!(shape_of("glm", json!({})).qkv_bias);
    assert!(!shape_of("glm", json!({ "attention_bias": false })).qkv_bias);
}

#[test]
fn activations_are_known_by_all_of_their_names() {
    let same = |config: Value, other: Value| {
        assert_eq!(shape(&config).unwrap(), shape(&other).unwrap());
    };
    same(llama(json!({ "hidden_act": "swish" })), llama(json!({ "hidden_act": "silu" })));
    for name in ["gelu_fast", "gelu_pytorch_tanh", "gelu_accurate", "gelu_python_tanh"] {
        same(
            gpt_neox(json!({ "hidden_act": name })),
            gpt_neox(json!({ "hidden_act": "gelu_new" })),
        );
    }
    insta::assert_snapshot!(refusal(llama(json!({ "hidden_act": "relu" }))), @r#"config.json: `hidden_act`: "relu" is not supported, only silu (also called swish)"#);
}
