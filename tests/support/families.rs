//! Tiny models whose weights follow a formula, with the numbers of transformers 4.57.6 (f64, CPU):
//! the log-prob of each of [`super::formula::TOKENS`] after the first. ChatGLM's come from `GlmForCausalLM`,
//! its tensors cut and renamed.

/// A configuration and its log-probs.
pub type Case = (&'static str, [f64; 7]);

pub const GPT2: Case = (
    r#"{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 11,
    "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16, "eos_token_id": 10}"#,
    [
        -3.8740598558694064,
        -4.386774220143586,
        -1.5989625801388285,
        -3.546390457210443,
        -3.9678073277466153,
        -4.3152037439369515,
        -1.4550117354201149,
    ],
);

pub const LLAMA: Case = (
    r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 11,
    "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10}"#,
    [
        -2.0404335576287176,
        -1.8226976304126916,
        -2.24130753966085,
        -1.8384313806906742,
        -1.958078624367814,
        -3.128237482786246,
        -2.2696929472731036,
    ],
);

pub const GPT_NEOX: Case = (
    r#"{"model_type": "gpt_neox", "vocab_size": 11, "hidden_size": 16,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "rotary_pct": 0.25, "rotary_emb_base": 1000, "max_position_embeddings": 16,
    "eos_token_id": 10}"#,
    [
        -2.119592353535265,
        -1.9798630563577255,
        -1.8828988975713552,
        -2.2630815299807825,
        -2.0763361431792786,
        -1.8798782700109866,
        -1.63196500705097,
    ],
);

pub const GPT_NEOX_SEQUENTIAL: Case = (
    r#"{"model_type": "gpt_neox", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_pct": 1.0,
    "rotary_emb_base": 1000, "max_position_embeddings": 16, "eos_token_id": 10,
    "use_parallel_residual": false, "hidden_act": "gelu_new"}"#,
    [
        -2.959280302477156,
        -3.5140351279351716,
        -1.9211548268596883,
        -3.360717991456204,
        -3.171593577458531,
        -3.5096699691296944,
        -1.9408699759193064,
    ],
);

pub const LLAMA_SCALED: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10, "model_type": "llama", "attention_bias": true, "mlp_bias": true,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0}}"#,
    [
        -2.079424469837344,
        -2.160749007318191,
        -2.0004989321339948,
        -1.948781339669109,
        -2.259198289789767,
        -3.2867377820922146,
        -2.1226149556407337,
    ],
);

pub const MISTRAL: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10, "model_type": "mistral", "sliding_window": 12}"#,
    [
        -2.0404335576287176,
        -1.8226976260237568,
        -2.24130749927119,
        -1.8384314119559653,
        -1.9580786825910357,
        -3.1282375790186343,
        -2.2696928965145844,
    ],
);

pub const QWEN2: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-05,
    "rope_theta": 1000.0, "max_position_embeddings": 16, "eos_token_id": 10,
    "model_type": "qwen2", "tie_word_embeddings": true}"#,
    [
        -3.401486645702942,
        -2.2481473438705826,
        -2.837802920483746,
        -2.8696193340193763,
        -3.319172367722141,
        -1.8213136373008727,
        -3.6463034677578943,
    ],
);

pub const QWEN3: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10, "model_type": "qwen3"}"#,
    [
        -2.0404335576287176,
        -1.8229390644762709,
        -2.3391278323851195,
        -1.885930686291599,
        -2.243276338679029,
        -3.0605875306788746,
        -2.2653647351255746,
    ],
);

pub const GLM: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10, "model_type": "glm", "attention_bias": true, "pad_token_id": 0}"#,
    [
        -2.112759936399095,
        -2.17785988486021,
        -1.8555632377001816,
        -2.0072260011369236,
        -2.4748150033632856,
        -3.2116628648668746,
        -2.024888341873965,
    ],
);

pub const GLM4: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16,
    "eos_token_id": 10, "model_type": "glm4", "attention_bias": true, "pad_token_id": 0}"#,
    [
        -2.3732786863673043,
        -2.405079598799771,
        -1.8301718316296798,
        -2.2243873823899905,
        -2.5843219437709135,
        -3.50536949894972,
        -2.0546959969802208,
    ],
);

pub const CHATGLM: Case = (
    r#"{"model_type": "chatglm", "padded_vocab_size": 11, "hidden_size": 8,
    "ffn_hidden_size": 12, "num_layers": 2, "num_attention_heads": 4,
    "multi_query_attention": true, "multi_query_group_num": 2, "kv_channels": 4,
    "layernorm_epsilon": 1e-05, "rope_ratio": 0.1, "seq_length": 16, "add_qkv_bias": true,
    "eos_token_id": 10}"#,
    [
        -3.451590059493685,
        -3.3857148027828976,
        -3.191182156402564,
        -2.6251834125504656,
        -2.860174180422063,
        -1.9118752209055772,
        -3.332126744451572,
    ],
);

/// All of them.
pub const ALL: [Case; 11] = [
    GPT2,
    LLAMA,
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
