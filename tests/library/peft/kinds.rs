//! Adapters of many kinds and the log-probs that peft 0.21.2 with transformers 4.57.6 gives for them
//! (f64, CPU), the base's vocabulary resized first where the adapter brings a larger one.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::families::{self, Case};
use crate::support::formula::write_tensors;

pub struct Kind {
    pub name: &'static str,
    pub model: Case,
    pub config: Value,
    /// Names and shapes; a star stands for both layers.
    pub tensors: &'static [(&'static str, &'static [usize])],
    pub expected: [f64; 7],
}

/// Writes an adapter of `base`. Element `i` of the tensor `name` is 0.3 sin(0.7 i + length of the
/// name), norms and magnitudes about 1.
pub fn write_adapter(folder: &Path, base: &Path, config: &Value, tensors: &[(&str, &[usize])]) {
    let mut settings = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 5,
        "base_model_name_or_path": base, "target_modules": [],
    });
    for (key, value) in config.as_object().unwrap() {
        settings[key] = value.clone();
    }
    std::fs::write(folder.join("adapter_config.json"), settings.to_string()).unwrap();
    let mut written = Vec::new();
    for (name, shape) in tensors {
        for layer in if name.contains('*') { &["0", "1"][..] } else { &["0"] } {
            let name = format!("base_model.model.{}", name.replace('*', layer));
            let about = f64::from(name.contains("norm") || name.contains("magnitude"));
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|i: usize| (about + 0.3 * (0.7 * i as f64 + name.len() as f64).sin()) as f32)
                .collect();
            written.push((name, shape.to_vec(), bytemuck::cast_slice(&values).to_vec()));
        }
    }
    write_tensors(&folder.join("adapter_model.safetensors"), &written);
}

pub fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            name: "patterns",
            model: families::LLAMA,
            config: json!({ "target_modules": ["q_proj", "v_proj"], "rank_pattern": { r".*\.1\..*": 3 },
            "alpha_pattern": { r"^model\.layers\.0\..*q_proj": 7, "proj": 99, "(q|v)_proj": 4 } }),
            tensors: &[
                ("model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.0.self_attn.q_proj.lora_B.weight", &[16, 2]),
                ("model.layers.1.self_attn.q_proj.lora_A.weight", &[3, 8]),
                ("model.layers.1.self_attn.q_proj.lora_B.weight", &[16, 3]),
                ("model.layers.0.self_attn.v_proj.lora_A.weight", &[2, 8]),
                ("model.layers.0.self_attn.v_proj.lora_B.weight", &[8, 2]),
                ("model.layers.1.self_attn.v_proj.lora_A.weight", &[3, 8]),
                ("model.layers.1.self_attn.v_proj.lora_B.weight", &[8, 3]),
            ],
            expected: [
                -1.9726939757373292,
                -1.7125222721503977,
                -2.4402481825614193,
                -2.0648891818527892,
                -2.2326884473692292,
                -2.6228915077800163,
                -2.442095860388694,
            ],
        },
        Kind {
            name: "regex",
            model: families::LLAMA,
            config: json!({ "target_modules": r"^(?!.*layers\.1\.).*\.(q|v)_proj$" }),
            tensors: &[
                ("model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.0.self_attn.q_proj.lora_B.weight", &[16, 2]),
                ("model.layers.0.self_attn.v_proj.lora_A.weight", &[2, 8]),
                ("model.layers.0.self_attn.v_proj.lora_B.weight", &[8, 2]),
            ],
            expected: [
                -1.972500292286652,
                -1.7245065792774326,
                -2.434604320543698,
                -2.079363218392389,
                -2.1425614194387825,
                -2.692709703530148,
                -2.440226559018984,
            ],
        },
        Kind {
            name: "layers",
            model: families::LLAMA,
            config: json!({ "target_modules": ["q_proj"], "layers_to_transform": [1], "use_rslora": true }),
            tensors: &[
                ("model.layers.1.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.1.self_attn.q_proj.lora_B.weight", &[16, 2]),
            ],
            expected: [
                -2.0404335576287176,
                -1.8077091926879356,
                -2.325291284986145,
                -1.8895819807645111,
                -2.109672994680829,
                -2.8980242356856767,
                -2.3258256174708443,
            ],
        },
        Kind {
            name: "saved",
            model: families::LLAMA,
            config: json!({ "target_modules": ["q_proj"],
            "modules_to_save": ["embed_tokens", "lm_head", "input_layernorm"] }),
            tensors: &[
                ("model.layers.*.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.*.self_attn.q_proj.lora_B.weight", &[16, 2]),
                ("model.embed_tokens.weight", &[11, 8]),
                ("lm_head.weight", &[11, 8]),
                ("model.layers.*.input_layernorm.weight", &[8]),
            ],
            expected: [
                -2.1799592942780515,
                -4.038096907300279,
                -2.1376862021375826,
                -2.4694983430599677,
                -3.6265926808969584,
                -2.3088444808652238,
                -2.5561070379934274,
            ],
        },
        Kind {
            name: "tied saved",
            model: families::QWEN2,
            config: json!({ "target_modules": ["o_proj"], "modules_to_save": ["embed_tokens"] }),
            tensors: &[("model.embed_tokens.weight", &[11, 8])],
            expected: [
                -2.107814201118648,
                -2.2016781064505433,
                -3.2249969277674175,
                -2.81703393459682,
                -2.104629992311268,
                -2.7589615243539702,
                -2.336854582391999,
            ],
        },
        Kind {
            name: "tied head",
            model: families::QWEN2,
            config: json!({ "target_modules": ["lm_head"] }),
            tensors: &[("lm_head.lora_A.weight", &[2, 8]), ("lm_head.lora_B.weight", &[11, 2])],
            expected: [
                -3.709490909938729,
                -1.974971851359228,
                -2.9329968720036743,
                -2.72945684276213,
                -3.2049875323917987,
                -1.7672510105389243,
                -3.6964178318958267,
            ],
        },
        Kind {
            name: "embeddings",
            model: families::GPT2,
            config: json!({ "target_modules": ["wte", "wpe"] }),
            tensors: &[
                ("transformer.wte.lora_embedding_A", &[2, 11]),
                ("transformer.wte.lora_embedding_B", &[8, 2]),
                ("transformer.wpe.lora_embedding_A", &[2, 16]),
                ("transformer.wpe.lora_embedding_B", &[8, 2]),
            ],
            expected: [
                -4.486458193058859,
                -4.379716125721531,
                -1.6882415058510791,
                -3.642076130061568,
                -4.018936332963582,
                -4.414145560856332,
                -1.455944647510495,
            ],
        },
        Kind {
            name: "dora",
            model: families::GPT2,
            config: json!({ "target_modules": ["c_attn", "wte"], "use_dora": true }),
            tensors: &[
                ("transformer.h.*.attn.c_attn.lora_A.weight", &[2, 8]),
                ("transformer.h.*.attn.c_attn.lora_B.weight", &[24, 2]),
                ("transformer.h.*.attn.c_attn.lora_magnitude_vector", &[24]),
                ("transformer.wte.lora_embedding_A", &[2, 11]),
                ("transformer.wte.lora_embedding_B", &[8, 2]),
                ("transformer.wte.lora_magnitude_vector", &[8]),
            ],
            expected: [
                -4.823142272115534,
                -4.316362281816038,
                -1.7142799902978525,
                -3.903365821632221,
                -4.004260767388173,
                -4.419644024025327,
                -1.4342024788795775,
            ],
        },
        Kind {
            name: "bias",
            model: families::LLAMA_SCALED,
            config: json!({ "target_modules": ["q_proj"], "bias": "lora_only", "lora_bias": true }),
            tensors: &[
                ("model.layers.*.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.*.self_attn.q_proj.lora_B.weight", &[16, 2]),
                ("model.layers.*.self_attn.q_proj.lora_B.bias", &[16]),
                ("model.layers.*.self_attn.q_proj.base_layer.bias", &[16]),
            ],
            expected: [
                -2.079424469837344,
                -2.1830401822945977,
                -1.98750866213088,
                -1.9239920641289543,
                -2.395730788698749,
                -3.2450421781035783,
                -2.1279176669986364,
            ],
        },
        Kind {
            name: "bias by head",
            model: families::GPT_NEOX,
            config: json!({ "target_modules": ["query_key_value"], "lora_bias": true }),
            tensors: &[
                ("gpt_neox.layers.*.attention.query_key_value.lora_A.weight", &[2, 16]),
                ("gpt_neox.layers.*.attention.query_key_value.lora_B.weight", &[48, 2]),
                ("gpt_neox.layers.*.attention.query_key_value.lora_B.bias", &[48]),
            ],
            expected: [
                -1.1605471752998024,
                -2.855679339516888,
                -1.8850749320712512,
                -2.4805675162695064,
                -1.5021359019849003,
                -2.1886020431183844,
                -1.5609508253791944,
            ],
        },
        Kind {
            name: "tokens",
            model: families::QWEN2,
            config: json!({ "target_modules": ["o_proj"], "trainable_token_indices": [9, 3] }),
            tensors: &[("model.embed_tokens.token_adapter.trainable_tokens_delta", &[2, 8])],
            expected: [
                -3.3986749672007637,
                -2.2443114438751763,
                -3.964404452571147,
                -2.996173700645172,
                -2.7810066510748603,
                -2.0505057615571713,
                -3.0783069405749623,
            ],
        },
        Kind {
            name: "kept tied",
            model: families::QWEN2,
            config: json!({ "target_modules": ["embed_tokens"], "ensure_weight_tying": true }),
            tensors: &[
                ("model.embed_tokens.lora_embedding_A", &[2, 11]),
                ("model.embed_tokens.lora_embedding_B", &[8, 2]),
                ("model.embed_tokens.base_layer.weight", &[11, 8]),
            ],
            expected: [
                -2.921608540551746,
                -2.389572184999635,
                -4.118124747489266,
                -4.032690308636772,
                -3.583202549627473,
                -1.8940852360709766,
                -3.854624823715314,
            ],
        },
        Kind {
            name: "resized",
            model: families::LLAMA,
            config: json!({ "target_modules": ["q_proj"] }),
            tensors: &[
                ("model.layers.*.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.*.self_attn.q_proj.lora_B.weight", &[16, 2]),
                ("model.embed_tokens.weight", &[13, 8]),
                ("lm_head.weight", &[13, 8]),
            ],
            expected: [
                -2.3774898397051683,
                -3.522362847372965,
                -2.2808884518907075,
                -2.5429712535721856,
                -3.347449261527223,
                -2.670001285551594,
                -2.8132207803572014,
            ],
        },
        Kind {
            name: "resized tied",
            model: families::QWEN2,
            config: json!({ "target_modules": ["q_proj"] }),
            tensors: &[
                ("model.layers.*.self_attn.q_proj.lora_A.weight", &[2, 8]),
                ("model.layers.*.self_attn.q_proj.lora_B.weight", &[8, 2]),
                ("model.embed_tokens.weight", &[13, 8]),
            ],
            expected: [
                -3.941473645655476,
                -2.988642239237832,
                -3.57447739009535,
                -3.7043414476942136,
                -2.8761942803882365,
                -1.7924330039305223,
                -3.8526820933063304,
            ],
        },
    ]
}
