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

pub const LLAMA_YARN: Case = (
    r#"{"model_type": "llama", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rms_norm_eps": 1e-05, "rope_theta": 1000.0, "max_position_embeddings": 16, "eos_token_id": 10,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8,
    "beta_fast": 2.0, "truncate": false}}"#,
    [
        -2.0404335576287176,
        -1.8261705315814114,
        -2.218331915973496,
        -1.8410471264611559,
        -2.000362392410629,
        -3.162857729479933,
        -2.2441307299685773,
    ],
);

/// As transformers 5 writes it; the numbers come from the same settings under their old names.
pub const QWEN3_YARN: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-05,
    "max_position_embeddings": 16, "eos_token_id": 10, "model_type": "qwen3", "rope_scaling": null,
    "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0,
    "original_max_position_embeddings": 4, "mscale": 0.7, "mscale_all_dim": 0.9}}"#,
    [
        -2.0404335576287176,
        -1.8210570518027915,
        -2.3340467019541875,
        -1.8804202761500646,
        -2.2388812022121023,
        -3.103705527800839,
        -2.25751019214143,
    ],
);

pub const GPT_NEOX_LONG: Case = (
    r#"{"model_type": "gpt_neox", "vocab_size": 11, "hidden_size": 16,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "rotary_pct": 0.5, "rotary_emb_base": 1000, "max_position_embeddings": 16, "eos_token_id": 10,
    "rope_scaling": {"type": "longrope", "factor": 4.0, "short_factor": [1.0, 1.75],
    "long_factor": [3.0, 4.0]}}"#,
    [
        -2.119592353535265,
        -1.9853262132522445,
        -1.824723162153194,
        -2.3804010958933826,
        -1.3004029491424067,
        -1.8855709878325464,
        -1.602477899102842,
    ],
);

/// As transformers 5 writes it, too.
pub const GLM_LONG: Case = (
    r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-05,
    "max_position_embeddings": 16, "eos_token_id": 10, "model_type": "glm", "pad_token_id": 0,
    "rope_parameters": {"rope_type": "longrope", "short_factor": [1.75], "long_factor": [3.0],
    "original_max_position_embeddings": 12, "rope_theta": 300.0, "partial_rotary_factor": 0.5}}"#,
    [
        -2.1127599363990957,
        -2.176083039244263,
        -1.90825213709972,
        -2.071129936995004,
        -2.474106959731455,
        -3.3087030410257734,
        -1.9631490180044544,
    ],
);

/// All of them.
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
