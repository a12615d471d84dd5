//! Claims about sizes: no input takes the machine, whatever it says of itself, and no model is asked for
//! what it has not.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::support::Workplace;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

fn group(text: &str) -> Value {
    json!({"prompt": "p", "completions": ["a", text], "rewards": [0.0, 1.0]})
}

fn change(path: &Path, key: &str, value: Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json[key] = value;
    std::fs::write(path, json.to_string()).unwrap();
}

/// A copy of the model with another `config.json`, without its weights.
fn model_of(place: &Workplace, name: &str, key: &str, value: Value) {
    std::fs::create_dir(place.path(name)).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(place.path("model").join(file), place.path(name).join(file)).unwrap();
    }
    change(&place.path(name).join("config.json"), key, value);
}

#[test]
fn a_row_has_a_largest_size_in_every_form_of_file() {
    let place = Workplace::new();
    let (small, large) = (group("b"), group(&"b".repeat(2000)));
    let forms = [
        ("lines.jsonl", format!("{small}\n{large}\n"), 2),
        ("array.json", format!("[{small},\n\n{large}]"), 3),
        (
            "objects.json",
            format!("{{\n{}\n{{\n{}", &small.to_string()[1..], &large.to_string()[1..]),
            3,
        ),
        ("table.csv", format!("prompt,chosen,rejected\np,a,\"{}\"\n", "b\n".repeat(1000)), 2),
        ("commas.csv", format!("prompt,chosen,rejected\np,a,b\n{}\n", ",".repeat(2000)), 3),
        ("brackets.jsonl", format!("{small}\n{}\n", "[".repeat(2000)), 2),
        ("blanks.jsonl", format!("{small}\n{}", " ".repeat(2000)), 2),
    ];
    for (name, text, line) in forms {
        place.write(name, &text);
        let arguments = format!("pairs --data {name} --out {name}.o --set data.max_row_bytes=1000");
        let said = place.refuses(&arguments, 1);
        let expected = format!(
            "error: {name}:{line}: expected at most 1000 bytes in a row, found more; write one record a line, \
             drop the row, or raise data.max_row_bytes"
        );
        assert_eq!(said, expected);
        assert!(!place.path(&format!("{name}.o")).exists());
    }
    place.succeeds("pairs --data lines.jsonl --out o");
    let names = std::fs::read_dir(place.folder.path()).unwrap().flatten();
    let parts = names.filter(|it| it.file_name().to_string_lossy().starts_with(".part"));
    assert_eq!(parts.count(), 0, "what was written before the error is gone");
}

#[test]
fn an_object_that_holds_the_rows_may_be_larger_than_a_row() {
    let place = Workplace::new();
    let rows: Vec<Value> = std::iter::repeat_n(group("b"), 40).collect();
    let held = json!({ "version": "1", "data": rows });
    place.write("line.json", &held.to_string());
    place.write("lines.json", &serde_json::to_string_pretty(&held).unwrap());
    for name in ["line.json", "lines.json"] {
        let said = place
            .succeeds(&format!("pairs --data {name} --out {name}.o --set data.max_row_bytes=1000"));
        assert!(said.contains("\"groups\":40"), "{said}");
    }
    // A record of that size is none that holds rows.
    place.write("record.json", &group(&"b".repeat(2000)).to_string());
    let said =
        place.refuses("pairs --data record.json --out record.o --set data.max_row_bytes=1000", 1);
    assert!(said.contains("record.json:1: expected at most 1000 bytes in a row"), "{said}");
    // Nothing but small values would take two hundred times the file.
    place.write("values.json", &format!("{{\"data\": [{}{{}}]}}", "{},".repeat(9_000_000)));
    let said = place.refuses("pairs --data values.json --out values.o", 1);
    assert!(said.contains("one JSON object of more values than are held at a time"), "{said}");
}

#[test]
fn a_cell_has_a_largest_size() {
    let place = Workplace::new();
    let column = |texts: [&str; 2]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let long = "b".repeat(2000);
    let columns = [
        ("prompt", column(["p", "p"])),
        ("chosen", column(["a", "a"])),
        ("rejected", column(["b", &long])),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(place.path("rows.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let said =
        place.refuses("pairs --data rows.parquet --out refused --set data.max_row_bytes=1000", 1);
    assert!(
        said.starts_with("error: rows.parquet:2: expected at most 1000 bytes in a row"),
        "{said}"
    );
    place.succeeds("pairs --data rows.parquet --out o");
}

/// A megabyte that unpacks to a gigabyte ends where the row is too large, not where memory is.
#[test]
fn a_line_without_end_is_refused_before_it_is_unpacked() {
    let place = Workplace::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(format!("{}\n{{\"prompt\": \"", group("b")).as_bytes()).unwrap();
    let block = vec![b'a'; 1 << 20];
    (0..200).for_each(|_| packed.write_all(&block).unwrap());
    std::fs::write(place.path("bomb.jsonl.gz"), packed.finish().unwrap()).unwrap();
    let said = place.refuses("pairs --data bomb.jsonl.gz --out o", 1);
    assert!(said.starts_with("error: bomb.jsonl.gz:2: expected at most 8388608 bytes"), "{said}");
    let mut loss = place.exalign();
    loss.args(["loss", "--objective", "dpo"]).write_stdin(vec![b'['; 40 << 20]);
    let said = place.refusal(&loss.output().unwrap(), "loss", 1);
    assert!(said.starts_with("error: standard input:1: expected at most 8388608 bytes"), "{said}");
}

#[test]
fn what_cannot_fit_in_memory_is_refused_by_the_setting_that_asks_for_it() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    place.lines("prompts.jsonl", [json!({"prompt_ids": [1, 2]})]);
    let align = "align --objective dpo --model model --data groups.jsonl --out out --max-steps 1";
    let sample = "sample --model model --data prompts.jsonl --out s --max-new-tokens 4";
    for (arguments, setting, remedy) in [
        (
            format!("{align} --fresh --lora-rank 1000000000"),
            "`adapter.rank` 1000000000",
            "--lora-rank",
        ),
        (
            format!("{align} --fresh --lora-rank {}", i64::MAX),
            "`adapter.rank` 9223372036854775807",
            "--lora-rank",
        ),
        (
            format!("{sample} --fresh --completions 4294967296"),
            "4294967296 completions",
            "generation.completions",
        ),
        (
            format!("{sample} --fresh --completions {}", i64::MAX),
            "9223372036854775807 completions",
            "generation.completions",
        ),
    ] {
        let said = place.refuses(&arguments, 2);
        assert!(said.starts_with(&format!("error: {setting}")) || said.contains(setting), "{said}");
        assert!(said.contains("fits in the") && said.contains(remedy), "{said}");
    }
    let said = place.refuses("run sentiment --out run --set data.prompts=1000000000000", 2);
    assert!(
        said.contains("`data`: 1000000000496 examples") && said.contains("lower data.demo"),
        "{said}"
    );
    let said = place.refuses(
        "run sentiment --out wide --set model.hidden_size=1000000 --set model.num_heads=2",
        2,
    );
    assert!(said.contains("`model`: ") && said.contains("lower model.num_layers"), "{said}");
}

/// Numbers that are large and ask for no memory are taken as they are.
#[test]
fn large_numbers_that_take_nothing_are_no_error() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    let max = u64::MAX >> 1;
    place.succeeds(&format!(
        "align --objective dpo --model model --data groups.jsonl --out out --max-steps 1 --batch-size {max} \
         --micro-batch-size {max} --epochs {max} --set checkpoint.every={max} --set checkpoint.keep={max}"
    ));
}

#[test]
fn sizes_of_a_model_that_no_machine_holds_are_refused_where_they_stand() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    for (name, key, value) in [
        ("layers", "n_layer", json!(1_000_000)),
        ("vocabulary", "vocab_size", json!(1_000_000_000_000_000_000u64)),
        ("hidden", "n_embd", json!(1_000_000_000_000u64)),
    ] {
        model_of(&place, name, key, value);
        for command in ["score --data groups.jsonl --model", "info --model"] {
            let said = place.refuses(&format!("{command} {name}"), 1);
            assert!(said.contains("config.json: expected the sizes of a model"), "{said}");
        }
    }
    for value in [json!(-1), json!(4_294_967_297u64), json!(1.5), json!("end"), json!([1, -2])] {
        std::fs::write(
            place.path("model/generation_config.json"),
            json!({"eos_token_id": value}).to_string(),
        )
        .unwrap();
        let said = place.refuses("info --model model", 1);
        assert!(
            said.contains("generation_config.json: `eos_token_id`: expected token ids"),
            "{said}"
        );
    }
}

#[test]
fn a_reference_with_fewer_tokens_or_positions_than_the_policy_is_refused() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    let small = json!([{"prompt_ids": [1], "completion_ids": [[2], [3]], "rewards": [0, 1]}]);
    place.lines("short.jsonl", small.as_array().unwrap().clone());
    crate::support::formula::formula_of(
        &place.path("few"),
        r#"{"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}"#,
    );
    crate::support::formula::formula_of(
        &place.path("near"),
        r#"{"model_type": "gpt2", "vocab_size": 23, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 4}"#,
    );
    let align = |reference: &str, data: &str, out: &str| {
        format!(
            "align --objective dpo --model model --reference {reference} --data {data} --out {out}"
        )
    };
    let said = place.refuses(&align("few", "groups.jsonl", "a"), 2);
    assert!(
        said.contains("expected token ids below 9, the vocabulary size of the model"),
        "{said}"
    );
    let said = place.refuses(&align("near", "groups.jsonl", "b"), 2);
    assert!(said.contains("expected at most 4 tokens, the positions of the model"), "{said}");
    place.succeeds(&align("near", "short.jsonl", "c"));
}

#[test]
fn ids_that_a_reward_model_has_not_are_refused() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 8, 2);
    place.succeeds("reward --model model --data groups.jsonl --out r --epochs 1");
    for (name, beyond) in [
        (
            "prompt.jsonl",
            json!({"prompt_ids": [1, 23], "completion_ids": [[2], [3]], "rewards": [0, 1]}),
        ),
        (
            "last.jsonl",
            json!({"prompt_ids": [1], "completion_ids": [[2], [4_294_967_295u32]], "rewards": [0, 1]}),
        ),
    ] {
        place.lines(name, [beyond]);
        for command in ["label --out o --reward r --data", "judge --judge reward:r --data"] {
            let said = place.refuses(&format!("{command} {name}"), 1);
            assert!(said.contains(&format!("{name}:1: ")), "{said}");
            assert!(
                said.contains("expected token ids below the model's vocabulary size 23"),
                "{said}"
            );
        }
    }
}

#[test]
fn adapters_that_are_their_own_base_are_refused_and_one_beside_its_base_is_read() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    place.succeeds(
        "align --objective dpo --model model --data groups.jsonl --out out --max-steps 2 --lora-rank 2",
    );
    let expected = place.succeeds("score --data groups.jsonl --model out/model");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(place.path("out/model").join(file), place.path("model").join(file)).unwrap();
    }
    let settings = place.path("model/adapter_config.json");
    change(&settings, "base_model_name_or_path", json!("."));
    let beside = place.succeeds("score --data groups.jsonl --model model");
    assert_eq!(beside, expected);

    for (name, base) in [("one", "../two"), ("two", "../one"), ("own", "../own")] {
        std::fs::create_dir(place.path(name)).unwrap();
        let settings = json!({"peft_type": "LORA", "base_model_name_or_path": base});
        std::fs::write(place.path(name).join("adapter_config.json"), settings.to_string()).unwrap();
    }
    let said = place.refuses("info --model one", 1);
    assert!(said.contains("an adapter that is the base of itself (one, whose base is "), "{said}");
    let said = place.refuses("info --model own", 1);
    assert!(said.contains("an adapter that is the base of itself (own"), "{said}");
}

#[test]
fn a_tokenizer_whose_reader_panics_is_an_error() {
    let place = Workplace::new();
    let tokenizer = r#"{"version": "1.0", "added_tokens": [], "decoder": -Infinity,
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
    std::fs::write(place.path("model/tokenizer.json"), tokenizer).unwrap();
    place.lines("pairs.jsonl", [json!({"prompt": "a", "chosen": "a", "rejected": "aa"})]);
    let output =
        place.exalign().args(["score", "--model", "model", "--data", "pairs.jsonl"]).output();
    let output = output.unwrap();
    let said = place.refusal(&output, "score", 1);
    assert!(said.contains("tokenizer"), "{said}");
    assert!(
        !crate::support::text(&output.stderr).contains("panicked"),
        "{}",
        crate::support::text(&output.stderr)
    );
}

#[test]
fn a_completion_that_no_model_predicts_is_refused_where_it_would_be_learned() {
    let place = Workplace::new();
    let alone = json!({"prompt_ids": [], "completion_ids": [[2, 3], [4]], "rewards": [1.0, 0.0]});
    place.lines("alone.jsonl", [alone.clone()]);
    place.lines("alone-sft.jsonl", [json!({"prompt_ids": [], "chosen_ids": [4]})]);
    let align = "align --objective exo-rw --model model --data";
    insta::assert_snapshot!(
        place.refuses(&format!("{align} alone.jsonl --out out"), 1),
        @"error: alone.jsonl:1: `completions[1]`: expected a token with another one before it, found one token after an empty prompt; give the prompt a token (many models have one that begins texts) or drop the record or pass --skip-bad 1"
    );
    insta::assert_snapshot!(
        place.refuses("sft --model model --data alone-sft.jsonl --out out", 1),
        @"error: alone-sft.jsonl:1: `chosen`: expected a token with another one before it, found one token after an empty prompt; give the prompt a token (many models have one that begins texts) or drop the record or pass --skip-bad 1"
    );
    // Longer ones are learned from their second token on, and the others are set aside if asked.
    let longer =
        json!({"prompt_ids": [], "completion_ids": [[2, 3], [4, 5]], "rewards": [1.0, 0.0]});
    place.lines("longer.jsonl", [alone, longer]);
    place.succeeds(&format!("{align} longer.jsonl --out out --skip-bad 1"));
    let metrics = crate::support::json_lines(&place.path("out/metrics.jsonl"));
    assert!(metrics[0]["grad_norm"].as_f64().unwrap() > 0.0, "{metrics:?}");
    // What learns nothing has no use for it.
    place.succeeds("score --model model --data alone.jsonl");
}
