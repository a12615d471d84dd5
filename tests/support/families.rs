//! Tiny models whose weights follow a formula, with the numbers of transformers 4.57.6 (f64, CPU).
//!
//! `families/NAME.json` is a model's `config.json`; `families/generate.py` computes
//! `families/numbers.json` from all of them. ChatGLM's numbers come from `GlmForCausalLM`, its tensors
//! joined and renamed; a configuration as transformers 5 writes it is computed under the old names.

use serde_json::Value;

/// A configuration and its name.
pub type Case = (&'static str, &'static str);

macro_rules! case {
    ($name:literal) => {
        (include_str!(concat!("families/", $name, ".json")), $name)
    };
}

pub const GPT2: Case = case!("gpt2");
pub const GPT_NEOX: Case = case!("gpt_neox");
pub const GPT_NEOX_LONG: Case = case!("gpt_neox_long");
pub const GPT_NEOX_SEQUENTIAL: Case = case!("gpt_neox_sequential");
pub const LLAMA: Case = case!("llama");
pub const LLAMA_SCALED: Case = case!("llama_scaled");
pub const LLAMA_YARN: Case = case!("llama_yarn");
pub const MISTRAL: Case = case!("mistral");
pub const QWEN2: Case = case!("qwen2");
pub const QWEN3: Case = case!("qwen3");
/// As transformers 5 writes it.
pub const QWEN3_YARN: Case = case!("qwen3_yarn");
pub const GLM: Case = case!("glm");
pub const GLM4: Case = case!("glm4");
/// As transformers 5 writes it, too.
pub const GLM_LONG: Case = case!("glm_long");
pub const CHATGLM: Case = case!("chatglm");

/// Every family, in every layout of its tensors.
pub const ALL: [Case; 15] = [
    GPT2,
    LLAMA,
    LLAMA_YARN,
    QWEN3_YARN,
    GPT_NEOX_LONG,
    GLM_LONG,
    GPT_NEOX,
    GPT_NEOX_SEQUENTIAL,
    LLAMA_SCALED,
    MISTRAL,
    QWEN2,
    QWEN3,
    GLM,
    GLM4,
    CHATGLM,
];

/// Further settings of each family: kinds of rotary positions, biases, tied heads, activations, heads
/// of a width of their own, ε of norms, windows.
pub const SETTINGS: [Case; 19] = [
    case!("gpt2_erf_untied"),
    case!("gpt2_fast"),
    case!("gpt2_pytorch_tanh"),
    case!("gpt_neox_bare"),
    case!("gpt_neox_linear"),
    case!("gpt_neox_llama3"),
    case!("llama_bare"),
    case!("llama_tied"),
    case!("llama_llama3"),
    case!("llama_dynamic"),
    case!("llama_long"),
    case!("llama_yarn_truncated"),
    case!("mistral_open"),
    case!("qwen2_window"),
    case!("qwen3_bias_tied"),
    case!("glm_bare"),
    case!("glm_llama3"),
    case!("glm4_bare"),
    case!("chatglm_bias_tied"),
];

/// What transformers computes for each configuration, by its name.
pub fn numbers() -> Value {
    serde_json::from_str(include_str!("families/numbers.json")).unwrap()
}
