//! A Llama whose next token depends on the last one alone, by a table: everything that is said of it can
//! be computed by hand.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

/// Tokens, and the width of the model.
pub const V: usize = 8;

/// The token that ends a completion; nothing leads there but by the table.
pub const END: u32 = 7;

/// Writes the language model whose logits for token j after token i are `table[i][j]`.
pub fn language_model(folder: &Path, table: [[f32; V]; V]) {
    // A normalised row of the identity has √V in its place.
    let head = (0..V * V).map(|at| table[at % V][at / V] / (V as f32).sqrt()).collect();
    write(folder, "LlamaForCausalLM", ("lm_head.weight", [V, V], head));
}

/// Writes the reward model whose reward of a text is that of its last token.
pub fn reward_model(folder: &Path, rewards: [f32; V]) {
    let score = rewards.iter().map(|it| it / (V as f32).sqrt()).collect();
    write(folder, "LlamaForSequenceClassification", ("score.weight", [1, V], score));
}

/// A table with the same row for every token.
pub fn after_any(row: [f32; V]) -> [[f32; V]; V] {
    [row; V]
}

fn write(folder: &Path, architecture: &str, head: (&str, [usize; 2], Vec<f32>)) {
    std::fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "llama", "architectures": [architecture], "vocab_size": V, "hidden_size": V,
        "intermediate_size": V, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": V / 2, "rms_norm_eps": 1e-12, "rope_theta": 10000.0,
        "max_position_embeddings": 64, "tie_word_embeddings": false, "eos_token_id": END,
        "id2label": {"0": "LABEL_0"},
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let identity = (0..V * V).map(|at| if at % V == at / V { 1.0 } else { 0.0 }).collect();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![V, V], identity),
        ("model.norm.weight".to_owned(), vec![V], vec![1.0; V]),
        (head.0.to_owned(), head.1.to_vec(), head.2),
    ];
    // The block adds nothing.
    let matrices = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    for name in matrices.into_iter().chain(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]) {
        tensors.push((format!("model.layers.0.{name}.weight"), vec![V, V], vec![0.0; V * V]));
    }
    for name in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push((format!("model.layers.0.{name}.weight"), vec![V], vec![1.0; V]));
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values): (String, Vec<usize>, Vec<f32>)| {
            (name, shape, values.iter().flat_map(|it| it.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// log softmax(row / temperature) at `token`.
pub fn log_prob(row: &[f32; V], token: u32, temperature: f64) -> f64 {
    let scaled = row.map(|it| f64::from(it) / temperature);
    let sum: f64 = scaled.iter().map(|it| it.exp()).sum();
    scaled[token as usize] - sum.ln()
}
