//! Claims about conversations through the command line: what is kept is computed anew when the template
//! changes, a date is kept, and what a model reads can be seen.

use crate::support::{Workplace, json_lines, metrics};
use exalign::files::{read_sealed, write_sealed};
use serde_json::{Value, json};

/// Turns of letters; `e` ends them, and the date stands in front where it is read.
const TEMPLATE: &str = "{% for m in messages %}{{ 'u' if m.role == 'user' else 'v' }}{{ m.content }}</s>{% endfor %}\
    {% if add_generation_prompt %}v{% endif %}";

/// A tokenizer of the letters a to t with a begin and an end token, and a chat template, for the model,
/// whose vocabulary has room for them.
fn chat_model(place: &Workplace, template: &str) {
    let letters = ('a'..='v').map(String::from).zip(0..);
    let mut vocab: serde_json::Map<String, Value> = letters
        .filter(|(letter, _)| letter != "s")
        .map(|(letter, id)| (letter, json!(id)))
        .collect();
    vocab.insert("</s>".to_owned(), json!(22));
    vocab.insert("s".to_owned(), json!(18));
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{
            "id": 22, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "q"},
    });
    place.write("model/tokenizer.json", &tokenizer.to_string());
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "chat_template": template,
    });
    place.write("model/tokenizer_config.json", &config.to_string());
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn pairs(place: &Workplace) {
    let pair = |(ask, good, bad): (&str, &str, &str)| json!({"prompt": [user(ask)], "chosen": [assistant(good)], "rejected": [assistant(bad)]});
    place.lines("pairs.jsonl", [("ab", "cd", "ef"), ("gh", "i", "jk")].map(pair));
}

#[test]
fn what_was_computed_with_another_template_is_refused_by_name() {
    let place = Workplace::new();
    chat_model(&place, TEMPLATE);
    pairs(&place);
    let commands = [
        "score --model model --data pairs.jsonl --out scores.jsonl",
        "sample --model model --data pairs.jsonl --out samples.jsonl --completions 1 --max-new-tokens 3",
        "align --objective dpo --model model --data pairs.jsonl --out aligned",
    ];
    for command in commands {
        place.succeeds(command);
        place.succeeds(command); // done before
    }
    let before = json_lines(&place.path("scores.jsonl"));
    chat_model(&place, &TEMPLATE.replace("{% for", "a{% for"));
    for command in commands {
        let refusal = place.refuses(command, 2);
        assert!(
            refusal.contains("the content of the tokenizer or chat template has changed"),
            "{refusal}"
        );
        assert!(refusal.contains("--fresh"), "{refusal}");
        place.succeeds(&format!("{command} --fresh"));
    }
    assert_ne!(json_lines(&place.path("scores.jsonl")), before);
}

#[test]
fn a_date_is_kept_in_the_record_and_can_be_set() {
    let place = Workplace::new();
    chat_model(&place, &TEMPLATE.replace("{% for", "{{ 'a' * strftime_now('%d') | int }}{% for"));
    pairs(&place);
    let score = |more: &str| {
        let out = place.succeeds(&format!("score --model model --data pairs.jsonl {more}"));
        out.lines().next().unwrap().to_owned()
    };
    let on = |day: &str| score(&format!("--set chat.date={day}"));
    assert_eq!(on("2024-07-03"), on("2025-01-03"), "the same day of a month");
    assert_ne!(on("2024-07-03"), on("2024-07-04"));
    // A training that began on another day goes on as it began.
    place.succeeds(
        "sft --model model --data pairs.jsonl --out one --epochs 2 --set chat.date=2024-07-03",
    );
    let mut record: Value = read_sealed(&place.path("one/run.json")).unwrap();
    record["complete"] = json!(false);
    write_sealed(&place.path("one/run.json"), &record).unwrap();
    place.succeeds("sft --model model --data pairs.jsonl --out one --epochs 2");
    place.succeeds(
        "sft --model model --data pairs.jsonl --out two --epochs 2 --set chat.date=2024-07-03",
    );
    assert_eq!(metrics(&place.path("one")), metrics(&place.path("two")));
    let model =
        |name: &str| std::fs::read(place.path(name).join("model/model.safetensors")).unwrap();
    assert_eq!(model("one"), model("two"));
}

#[test]
fn check_shows_rows_as_the_model_reads_them() {
    let place = Workplace::new();
    chat_model(&place, TEMPLATE);
    pairs(&place);
    let shown = place.succeeds("check --model model --data pairs.jsonl --show 1");
    assert!(
        shown.contains("2: `prompt` as messages, `chosen` as messages, `rejected` as messages"),
        "{shown}"
    );
    assert!(shown.contains("prompt (5)  u│a│b│</s>│v"), "{shown}");
    assert!(shown.contains("chosen (3)  ▸c│d│</s>■"), "{shown}");
    assert!(shown.contains("rejected (3)  ▸e│f│</s>■") && !shown.contains("g│h"), "{shown}");
    let info = place.succeeds("info --model model");
    assert!(info.contains("</s> (22): the chat template ends turns with it"), "{info}");
}

#[test]
fn what_the_template_leaves_out_is_told_by_check_and_by_trainings() {
    let place = Workplace::new();
    chat_model(&place, TEMPLATE);
    let mut answer = assistant("cd");
    answer["reasoning_content"] = json!("gh");
    let rows = ["ab", "ef"].map(|ask| json!({"prompt": [user(ask)], "completion": [answer]}));
    place.lines("rows.jsonl", rows);
    let words = "the chat template does not write `reasoning_content` of 2 records,";
    let checked = place.succeeds("check --model model --data rows.jsonl");
    assert!(checked.contains(words) && !checked.contains("go ahead"), "{checked}");
    let output = place
        .exalign()
        .args(["sft", "--model", "model", "--data", "rows.jsonl", "--out", "sft"])
        .output();
    let said = crate::support::text(&output.unwrap().stderr);
    assert_eq!(said.matches(words).count(), 1, "{said}");
}

#[test]
fn a_thumb_down_is_passed_over_by_fine_tuning_and_read_by_reward() {
    let place = Workplace::new();
    chat_model(&place, TEMPLATE);
    let row = |answer: &str, label: bool| json!({"prompt": [user("ab")], "completion": [assistant(answer)], "label": label, "note": "n"});
    place.lines("rows.jsonl", [row("cd", true), row("ef", false), row("gh", true)]);
    let output = place
        .exalign()
        .args(["sft", "--model", "model", "--data", "rows.jsonl", "--out", "sft"])
        .output();
    let said = crate::support::text(&output.unwrap().stderr);
    assert!(said.contains("2 records, 1 row passed over (`label` is false)"), "{said}");
    assert!(said.contains("columns that are not used: `note` (2)"), "{said}");
    assert_eq!(metrics(&place.path("sft"))[0]["groups"], 2);
    place.succeeds("reward --model model --data rows.jsonl --out reward");
    assert_eq!(metrics(&place.path("reward"))[0]["groups"], 3);
    let refusal =
        place.refuses("align --objective dpo --model model --data rows.jsonl --out aligned", 1);
    assert!(refusal.contains("`label`") && refusal.contains("exalign reward"), "{refusal}");
}

#[test]
fn a_reward_model_of_pairs_reads_what_it_was_trained_to_read_also_as_an_adapter() {
    let place = Workplace::new();
    chat_model(&place, TEMPLATE);
    place.lines("pairs.jsonl", [("ab", "cd", "ef"), ("gh", "i", "jk")].map(|(prompt, chosen, rejected)| {
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    }));
    place.lines(
        "groups.jsonl",
        [json!({"prompt": "ab", "completions": ["cd", "ef"], "finished": [true, false]})],
    );
    for (out, more) in [("whole", ""), ("adapter", "--lora-rank 2")] {
        place.succeeds(&format!("reward --model model --data pairs.jsonl --out {out} {more}"));
        let (file, place_of_note) = match more {
            "" => ("config.json", "/reward_reads"),
            _ => ("adapter_config.json", "/auto_mapping/reward_reads"),
        };
        let config = std::fs::read_to_string(place.path(out).join("model").join(file)).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config.pointer(place_of_note), Some(&json!("end")), "{config}");
        place.succeeds(&format!("label --reward {out} --data groups.jsonl --out {out}.jsonl"));
        let rewards = &json_lines(&place.path(&format!("{out}.jsonl")))[0]["rewards"];
        assert_eq!(rewards.as_array().unwrap().len(), 2);
        let info = place.succeeds(&format!("info --model {out}/model"));
        assert!(info.contains("of a text with the token that ends it"), "{info}");
    }
}
