use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use serde_json::json;

use super::*;
use crate::skipped::or_skip;

fn example(kind: SetKind, row: Value) -> Result<Example, Refusal> {
    kind.example(&Fields::parse(row.to_string().as_bytes()).unwrap())
}

fn dropped(kind: SetKind, row: Value) -> Reason {
    match example(kind, row.clone()) {
        Err(Refusal::Dropped(reason)) => reason,
        other => panic!("{row}: {other:?}"),
    }
}

fn bad(kind: SetKind, row: Value) -> Problem {
    match example(kind, row.clone()) {
        Err(Refusal::Bad(problem)) => problem,
        other => panic!("{row}: {other:?}"),
    }
}

/// One message of a user, as a prompt.
fn instruction(text: &str) -> Passage {
    conversation::prompt(conversation::user(text))
}

fn pair(prompt: Passage, chosen: &str, rejected: &str) -> Result<Example, Refusal> {
    Ok(Example::Preference {
        prompt,
        chosen: Passage::of_text(chosen),
        rejected: Passage::of_text(rejected),
        extras: Extras::default(),
    })
}

fn shown(prompt: Passage, chosen: &str) -> Result<Example, Refusal> {
    let chosen = Passage::of_text(chosen);
    Ok(Example::Demonstration { prompt, chosen, extras: Extras::default() })
}

#[test]
fn reviews_have_a_text_and_a_label_in_any_spelling() {
    let read = |row| example(SetKind::Reviews, row);
    let labelled = |text: &str, label| Ok(Example::Labelled { text: text.to_owned(), label });
    assert_eq!(
        read(json!({"text": "Fine.<br /><br />Yes.", "label": 1})),
        labelled("Fine.\n\nYes.", true)
    );
    for (label, positive) in [
        (json!("pos"), true),
        (json!("Positive"), true),
        (json!("1"), true),
        (json!(true), true),
        (json!("neg"), false),
        (json!("negative"), false),
        (json!(0.0), false),
    ] {
        assert_eq!(
            read(json!({"review": "Fine.", "sentiment": label})),
            labelled("Fine.", positive)
        );
    }
    assert_eq!(dropped(SetKind::Reviews, json!({"text": "Fine.", "label": -1})), Reason::NoLabel);
    assert_eq!(dropped(SetKind::Reviews, json!({"text": " <br />", "label": 1})), Reason::Empty);
    insta::assert_snapshot!(bad(SetKind::Reviews, json!({"text": "Fine.", "label": "good"})), @r#"`label`: expected 0, 1, negative or positive, found "good"; write 1 for the class to be rewarded and 0 for the other"#);
    insta::assert_snapshot!(bad(SetKind::Reviews, json!({"body": "Fine."})), @"`text`: expected a text, found only `body`; call the columns `text` and `label`");
}

#[test]
fn posts_become_the_papers_prompt_and_summaries_begin_with_one_space() {
    let read = |row| example(SetKind::Posts, row);
    let prompt = Passage::of_text("SUBREDDIT: r/pets\nTITLE: My cat\nPOST: It sleeps.\nTL;DR:");
    let post = json!({"subreddit": "pets", "title": "My cat ", "post": "It sleeps.\n", "summary": "  Cat sleeps."});
    assert_eq!(read(post), shown(prompt.clone(), " Cat sleeps."));
    let older = json!({"subreddit": "r/pets", "title": "My cat", "content": "It sleeps.", "summary": "Cat sleeps."});
    assert_eq!(read(older), shown(prompt.clone(), " Cat sleeps."));
    let laid_out = json!({"prompt": prompt.text, "completion": "Cat sleeps."});
    assert_eq!(read(laid_out), shown(prompt.clone(), " Cat sleeps."));
    let two = json!({"prompt": prompt.text, "chosen": "Cat sleeps.", "rejected": " Cat."});
    assert_eq!(read(two), pair(prompt, " Cat sleeps.", " Cat."));
    let untitled =
        json!({"subreddit": "pets", "title": null, "post": "It sleeps.", "summary": "x"});
    let prompt = Passage::of_text("SUBREDDIT: r/pets\nTITLE: \nPOST: It sleeps.\nTL;DR:");
    assert_eq!(read(untitled), shown(prompt, " x"));
    assert_eq!(dropped(SetKind::Posts, json!({"post": " ", "summary": "x"})), Reason::Empty);
    insta::assert_snapshot!(bad(SetKind::Posts, json!({"post": "It sleeps."})), @"`summary`: expected the summary of the post, found only `post`; drop the record");
}

#[test]
fn published_comparisons_choose_by_index() {
    let row = |choice: Value| {
        json!({
            "info": {"id": "t3_1", "post": "It sleeps.", "title": "My cat", "subreddit": "pets"},
            "summaries": [{"text": " Cat.", "policy": "sup2"}, {"text": "Cat sleeps.", "policy": "ref"}],
            "choice": choice, "worker": "x", "split": "train",
        })
    };
    let prompt = || Passage::of_text("SUBREDDIT: r/pets\nTITLE: My cat\nPOST: It sleeps.\nTL;DR:");
    assert_eq!(example(SetKind::Posts, row(json!(0))), pair(prompt(), " Cat.", " Cat sleeps."));
    assert_eq!(example(SetKind::Posts, row(json!(1))), pair(prompt(), " Cat sleeps.", " Cat."));
    insta::assert_snapshot!(bad(SetKind::Posts, row(json!(2))), @"`choice`: expected 0 or 1, found 2; drop the record");
    let article = json!({"info": {"article": "News."}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 0});
    assert_eq!(dropped(SetKind::Posts, article), Reason::OtherSet);
    let one = json!({"info": {"post": "x"}, "summaries": [{"text": "a"}], "choice": 0});
    insta::assert_snapshot!(bad(SetKind::Posts, one), @"`summaries`: expected two objects with `text`, and `info` with `post`, found a list of 1; give the comparisons as they are published");
}

#[test]
fn the_prompt_of_a_dialogue_is_what_both_sides_begin_with() {
    let read = |chosen: &str, rejected: &str| {
        example(SetKind::Dialogues, json!({"chosen": chosen, "rejected": rejected}))
    };
    let prompt = || Passage::of_text("\n\nHuman: Hi\n\nAssistant:");
    assert_eq!(
        read("\n\nHuman: Hi\n\nAssistant: Hello!", "\n\nHuman: Hi\n\nAssistant: Héllo"),
        pair(prompt(), " Hello!", " Héllo")
    );
    let two = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Well?\n\nAssistant:";
    assert_eq!(
        read(&format!("{two} Yes."), &format!("{two} Yes, sir.")),
        pair(Passage::of_text(two), " Yes.", " Yes, sir.")
    );
    // The turns before the last reply differ, so that no two replies are compared.
    let drop = |chosen: &str, rejected: &str| {
        dropped(SetKind::Dialogues, json!({"chosen": chosen, "rejected": rejected}))
    };
    let other = "\n\nHuman: Hi\n\nAssistant: Good day.\n\nHuman: Well?\n\nAssistant: No.";
    assert_eq!(drop(&format!("{two} Yes."), other), Reason::DifferentTurns);
    assert_eq!(
        drop("\n\nHuman: Hi\n\nAssistant: A", "\n\nHuman: Ho\n\nAssistant: B"),
        Reason::NoCommonPrompt
    );
    assert_eq!(drop(two, two), Reason::EqualSides);
    assert_eq!(
        drop("\n\nHuman: Hi\n\nAssistant: ", "\n\nHuman: Hi\n\nAssistant: B"),
        Reason::Empty
    );
    insta::assert_snapshot!(bad(SetKind::Dialogues, json!({"chosen": two})), @"`rejected`: expected a dialogue, found only `chosen`; give both `chosen` and `rejected` as whole dialogues");
}

#[test]
fn dialogues_of_messages_are_written_out() {
    let user = json!({"role": "user", "content": "Hi"});
    let reply = |text: &str| json!({"role": "assistant", "content": text});
    let expected = || pair(Passage::of_text("\n\nHuman: Hi\n\nAssistant:"), " A", " B");
    let whole = json!({"chosen": [user, reply("A")], "rejected": [user, reply("B")]});
    assert_eq!(example(SetKind::Dialogues, whole), expected());
    let apart = json!({"prompt": [user], "chosen": [reply("A")], "rejected": [reply("B")]});
    assert_eq!(example(SetKind::Dialogues, apart), expected());
}

#[test]
fn instructions_are_read_in_the_layouts_they_are_published_in() {
    let read = |row| example(SetKind::Instructions, row);
    let alpaca = json!({"instruction": "Add.", "input": "1 and 2", "output": "3"});
    assert_eq!(read(alpaca), shown(instruction("Add.\n\n1 and 2"), "3"));
    let plain = json!({"instruction": "Add.", "input": "", "output": "3"});
    assert_eq!(read(plain), shown(instruction("Add."), "3"));
    assert_eq!(read(json!({"prompt": "Add.", "chosen": "3"})), shown(instruction("Add."), "3"));

    let farm = |preference: Value| json!({"instruction": "Add.", "input": "", "output_1": "3", "output_2": "4", "preference": preference});
    assert_eq!(read(farm(json!(1))), pair(instruction("Add."), "3", "4"));
    assert_eq!(read(farm(json!(2.0))), pair(instruction("Add."), "4", "3"));
    assert_eq!(read(farm(json!("2"))), pair(instruction("Add."), "4", "3"));
    assert_eq!(dropped(SetKind::Instructions, farm(json!(1.5))), Reason::Tie);
    insta::assert_snapshot!(bad(SetKind::Instructions, farm(Value::Null)), @"`preference`: expected 1 or 2, found null; drop the record");

    let (user, three, four) = (
        json!({"role": "user", "content": "Add."}),
        json!({"role": "assistant", "content": "3"}),
        json!({"role": "assistant", "content": "4"}),
    );
    let feedback = |one: f64, two: f64| {
        json!({
            "prompt": "Add.", "chosen": [user, three], "rejected": [user, four],
            "score_chosen": one, "score_rejected": two,
        })
    };
    assert_eq!(read(feedback(8.5, 3.0)), pair(instruction("Add."), "3", "4"));
    assert_eq!(dropped(SetKind::Instructions, feedback(5.0, 5.0)), Reason::Tie);
    let texts = json!({"prompt": "Add.", "chosen": "3", "rejected": "4"});
    assert_eq!(read(texts), pair(instruction("Add."), "3", "4"));
    let other = json!({"role": "user", "content": "Divide."});
    let differ = json!({"chosen": [user, three], "rejected": [other, four]});
    assert_eq!(dropped(SetKind::Instructions, differ), Reason::NoCommonPrompt);
    assert_eq!(read(json!({"messages": [user, three]})), shown(instruction("Add."), "3"));
    assert_eq!(
        dropped(SetKind::Instructions, json!({"messages": [three, user]})),
        Reason::NoAnswer
    );
    assert_eq!(
        dropped(SetKind::Instructions, json!({"instruction": " ", "output": "3"})),
        Reason::Empty
    );
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, kind: SetKind, held_out: usize) -> crate::Result<Published> {
        Sources::find(&[self.0.path().to_owned()], &[])?.read(kind, held_out, 0)
    }
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn write_parquet(path: &Path, texts: &[&str], labels: &[i64]) {
    let schema = "message review { REQUIRED BYTE_ARRAY text (UTF8); REQUIRED INT64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties =
        WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = texts.iter().map(|&it| ByteArray::from(it)).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(labels, None, None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn every_file_format_gives_the_same_rows() {
    let (texts, labels) = (["Good, \"very\"\ngood.", "Bad.", "Größe 漢字 🙂"], [1, 0, 1]);
    let rows = || texts.iter().zip(labels);
    let lines: String = rows()
        .map(|(text, label)| format!("{}\n", json!({"text": text, "label": label})))
        .collect();
    let array = json!(
        rows().map(|(text, label)| json!({"text": text, "label": label})).collect::<Vec<_>>()
    );
    let table: String = rows()
        .map(|(text, label)| format!("{label},\"{}\"\n", text.replace('"', "\"\"")))
        .collect();
    let expected: Vec<Example> = rows()
        .map(|(text, label)| Example::Labelled { text: (*text).to_owned(), label: label == 1 })
        .collect();
    let read = |write: &dyn Fn(&Files)| {
        let files = Files::new();
        write(&files);
        let published = files.read(SetKind::Reviews, 0).unwrap();
        assert_eq!(published.train, expected);
        assert_eq!(published.rows(), 3);
    };
    read(&|files| drop(files.write("a.jsonl", &lines)));
    read(&|files| drop(files.write("a.jsonl.gz", gzip(&lines))));
    read(&|files| drop(files.write("a.json", serde_json::to_string_pretty(&array).unwrap())));
    read(&|files| drop(files.write("a.csv", format!("label,text\n{table}"))));
    read(&|files| drop(files.write("a.csv.gz", gzip(&format!("\u{feff}label,text\r\n{table}")))));
    read(&|files| {
        drop(files.write(
            "a.tsv",
            format!("label\ttext\n{}", table.replace("0,", "0\t").replace("1,", "1\t")),
        ))
    });
    read(&|files| write_parquet(&files.path("a.parquet"), &texts, &labels));
}

#[test]
fn the_original_folder_of_reviews_is_read_with_its_split() {
    let files = Files::new();
    files.write("aclImdb/train/pos/0_9.txt", "Good.<br />Yes.");
    files.write("aclImdb/train/neg/0_2.txt", "Bad.");
    files.write("aclImdb/train/unsup/0_0.txt", "Who knows.");
    files.write("aclImdb/test/pos/0_8.txt", "Also good.");
    files.write("aclImdb/test/neg/0_1.txt", "bad.\n");
    let published = files.read(SetKind::Reviews, 9).unwrap();
    assert!(published.has_own_split);
    let labelled = |text: &str, label| Example::Labelled { text: text.to_owned(), label };
    assert_eq!(published.train, [labelled("Good.\nYes.", true)]);
    assert_eq!(published.held_out, [labelled("bad.\n", false), labelled("Also good.", true)]);
    // "Bad." is "bad." in the test split.
    assert_eq!(published.dropped, Dropped::from([(Reason::HeldOutPrompt, 1)]));
}

#[test]
fn no_prompt_is_in_both_splits_and_no_example_is_there_twice() {
    let files = Files::new();
    let row = |prompt: &str, chosen: &str| {
        format!("{}\n", json!({"prompt": prompt, "chosen": chosen, "rejected": "no"}))
    };
    files.write(
        "train.jsonl",
        [row("One?", "a"), row(" one? ", "a"), row("One?", "b"), row("Two?", "c")].concat(),
    );
    files.write("test.jsonl", [row("TWO?", "c"), row("Two?", "d"), row("Two?\n", "D")].concat());
    let published = files.read(SetKind::Instructions, 9).unwrap();
    let chosen = |examples: &[Example]| -> Vec<String> {
        examples
            .iter()
            .map(|it| match it {
                Example::Preference { chosen, .. } => chosen.text.clone().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(chosen(&published.train), ["a", "b"]);
    assert_eq!(chosen(&published.held_out), ["c", "d"]);
    let expected = Dropped::from([(Reason::Duplicate, 2), (Reason::HeldOutPrompt, 1)]);
    assert_eq!(published.dropped, expected);
}

#[test]
fn a_set_without_a_split_is_split_by_prompt_whatever_the_order() {
    let row = |number: usize| {
        let answer = format!("answer {number}");
        format!("{}\n", json!({"instruction": format!("Do {}.", number / 2), "output": answer}))
    };
    let split = |numbers: &mut dyn Iterator<Item = usize>| {
        let files = Files::new();
        files.write("all.jsonl", numbers.map(row).collect::<String>());
        let published = files.read(SetKind::Instructions, 3).unwrap();
        assert!(!published.has_own_split);
        // Three prompts, each with its two answers.
        assert_eq!((published.held_out.len(), published.train.len()), (6, 34));
        let mut prompts: Vec<_> = published.held_out.iter().map(Example::prompt_key).collect();
        prompts.sort();
        prompts
    };
    assert_eq!(split(&mut (0..40)), split(&mut (0..40).rev()));
}

#[test]
fn a_field_of_the_row_says_its_split() {
    let files = Files::new();
    let row = |prompt: &str, split: &str| {
        format!("{}\n", json!({"prompt": prompt, "completion": "x", "split": split}))
    };
    files.write("batch3.jsonl", [row("One", "train"), row("Two", "valid1")].concat());
    let published = files.read(SetKind::Posts, 0).unwrap();
    assert_eq!((published.train.len(), published.held_out.len()), (1, 1));
}

#[test]
fn a_row_that_is_no_example_is_named_by_its_line() {
    let refused = |name: &str, content: &str| {
        let files = Files::new();
        files.write(name, content);
        let error = files.read(SetKind::Reviews, 0).unwrap_err().to_string();
        error.replace(&format!("{}/", files.0.path().display()), "")
    };
    insta::assert_snapshot!(refused("a.jsonl", "{\"text\": \"a\", \"label\": 1}\n\n{\"text\": \"b\"}\n"), @"a.jsonl:3: `label`: expected 0, 1, negative or positive, found only `text`; write 1 for the class to be rewarded and 0 for the other or pass --skip-bad 1");
    insta::assert_snapshot!(refused("a.json", "[\n {\"text\": \"a,]\", \"label\": 1},\n\n {\"text\": \"b\"}\n]"), @"a.json:4: `label`: expected 0, 1, negative or positive, found only `text`; write 1 for the class to be rewarded and 0 for the other or pass --skip-bad 1");
    insta::assert_snapshot!(refused("a.json", "[{\"text\": \"a\", \"label\": 1},"), @"a.json: truncated JSON: expected a list that ends with `]`; copy it again");
    insta::assert_snapshot!(refused("a.csv", "text,label\n\"a\nb\",1\nc\n"), @"a.csv:4: expected 2 columns as in the first line, found 1; quote fields that hold commas, quotes or line ends or pass --skip-bad 1");
    insta::assert_snapshot!(refused("a.csv", "text,label\nc,good\n"), @r#"a.csv:2: `label`: expected 0, 1, negative or positive, found "good"; write 1 for the class to be rewarded and 0 for the other or pass --skip-bad 1"#);
    insta::assert_snapshot!(refused("a.parquet", "PAR1 and no more"), @"a.parquet: cannot be read as Parquet: Parquet error: Invalid Parquet file. Corrupt footer; copy or download it again");
    insta::assert_snapshot!(refused("a.jsonl", "\n"), @"a.jsonl: expected rows, but the file is empty");

    let files = Files::new();
    files.write("a.jsonl", "{\"text\": \"a\", \"label\": 1}\nnot JSON\n");
    let sources = Sources::find(&[files.path("a.jsonl")], &[]).unwrap();
    let published = sources.read(SetKind::Reviews, 0, 1).unwrap();
    assert_eq!((published.train.len(), published.skipped, published.rows()), (1, 1, 2));
}

/// Runs where EXALIGN_DATA names a folder with the sets that its README describes.
#[test]
fn published_sets_have_the_numbers_that_are_known_of_them() {
    let data = std::env::var_os("EXALIGN_DATA").map(PathBuf::from);
    let Some(data) = or_skip(data, "EXALIGN_DATA names no folder with published sets") else {
        return;
    };
    let read = |kind, files: &[&str]| {
        let paths: Vec<PathBuf> = files.iter().map(|it| data.join(it)).collect();
        Sources::find(&paths, &[]).unwrap().read(kind, 100, 0).unwrap()
    };
    for (file, rows, differ) in
        [("hh/helpful_base_test.jsonl.gz", 2348, 9), ("hh/harmless_base_test.jsonl.gz", 2308, 5)]
    {
        let set = read(SetKind::Dialogues, &[file]);
        assert_eq!(set.rows(), rows);
        let without: usize = [Reason::DifferentTurns, Reason::NoCommonPrompt]
            .iter()
            .filter_map(|it| set.dropped.get(it))
            .sum();
        assert_eq!(without, differ, "{file}: {:?}", set.dropped);
    }
    let set = read(SetKind::Posts, &["tldr"]);
    assert!(set.has_own_split);
    assert_eq!(set.rows(), 14540);
    assert_eq!(set.held_out.len(), 1500);
}
