use std::io::{Cursor, Write};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    TimestampMillisecondArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{DataType, Field};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::*;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap(); // as the program of that name does
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().flat_map(bytes).collect()
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn open_bytes(name: &str, content: impl Into<Vec<u8>>) -> Result<Rows> {
    of(Path::new(name), Cursor::new(content.into()))
}

/// The rows with their lines; a bad row as the text of its problem.
fn located(name: &str, content: impl Into<Vec<u8>>) -> Vec<(usize, Value)> {
    let rows = open_bytes(name, content).unwrap().map(Result::unwrap);
    let value = |fields: Result<Fields, Problem>| match fields {
        Ok(mut fields) => {
            let fields = fields.values_mut().map(|(name, it)| (name.clone(), it.clone()));
            Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
        }
        Err(problem) => Value::from(problem),
    };
    rows.map(|(line, fields)| (line, value(fields))).collect()
}

fn read(name: &str, content: impl Into<Vec<u8>>) -> Vec<Value> {
    located(name, content).into_iter().map(|(_, row)| row).collect()
}

/// The error that opening or reading ends in.
#[track_caller]
fn error(name: &str, content: impl Into<Vec<u8>>) -> String {
    let content = content.into();
    let error = match open_bytes(name, content.clone()) {
        Err(error) => Some(error),
        Ok(rows) => rows.filter_map(Result::err).last(),
    };
    match error {
        Some(error) => error.to_string(),
        None => panic!("expected an error of {} bytes", content.len()),
    }
}

fn batch() -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["Größe 漢字", "b, \"c\"\nd", "e"]));
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![1, 0, 1]));
    RecordBatch::try_from_iter([("text", texts), ("label", labels)]).unwrap()
}

#[test]
fn every_form_gives_the_same_rows_whatever_the_name() {
    let expected = [
        json!({"text": "Größe 漢字", "label": 1}),
        json!({"text": "b, \"c\"\nd", "label": 0}),
        json!({"text": "e", "label": 1}),
    ];
    let lines: String = expected.iter().map(|row| format!("{row}\n")).collect();
    let pretty = serde_json::to_string_pretty(&expected).unwrap();
    let spread: String =
        expected.iter().map(|row| serde_json::to_string_pretty(row).unwrap() + "\n").collect();
    let table = "text,label\r\nGröße 漢字,1\r\n\"b, \"\"c\"\"\nd\",0\r\n\r\ne,1";
    let marked = format!("\u{feff}{lines}");
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("lines", lines.clone().into()),
        ("lines with a byte order mark", marked.clone().into()),
        ("lines that end with carriage returns", lines.replace('\n', "\r").into()),
        ("lines that end with both", lines.replace('\n', "\r\n").into()),
        ("an array", pretty.clone().into()),
        ("an array on a line", json!(expected).to_string().into()),
        ("objects over several lines", spread.into()),
        ("an object that holds them", json!({"version": 1, "data": expected}).to_string().into()),
        (
            "an object over several lines that holds them",
            serde_json::to_string_pretty(&json!({"rows": expected})).unwrap().into(),
        ),
        ("UTF-16 with a mark", utf16(&marked, false)),
        ("UTF-16, big end first, with a mark", utf16(&marked, true)),
        ("UTF-16 without a mark", utf16(&lines, false)),
        ("UTF-16, big end first, without a mark", utf16(&lines, true)),
        ("gzip", gzip(lines.as_bytes())),
        ("several members of gzip", [gzip(lines.as_bytes()), gzip(b"\n")].concat()),
        ("zstd", zstd(lines.as_bytes())),
        ("gzip in zstd", zstd(&gzip(lines.as_bytes()))),
        ("UTF-16 in gzip", gzip(&utf16(&marked, false))),
        ("a table", table.into()),
        ("a table with a byte order mark", format!("\u{feff}{table}").into()),
        ("a table of carriage returns", table.replace("\r\n", "\r").into()),
        (
            "a table with semicolons",
            "text;label\nGröße 漢字;1\n\"b, \"\"c\"\"\nd\";0\ne;1\n".into(),
        ),
        (
            "a table with its separator",
            "sep=|\nlabel|text\n1|Größe 漢字\n0|\"b, \"\"c\"\"\nd\"\n1|e\n".into(),
        ),
        ("a table with tabs", "label\ttext\n1\tGröße 漢字\n0\t\"b, \"\"c\"\"\nd\"\n1\te\n".into()),
        ("a table in UTF-16", utf16(&format!("\u{feff}{table}"), false)),
        ("Parquet", parquet(&batch())),
        ("Parquet in gzip", gzip(&parquet(&batch()))),
        ("a stream of Arrow", stream(&batch())),
        ("a file of Arrow", arrow_file(&batch())),
        ("a stream of Arrow in zstd", zstd(&stream(&batch()))),
    ];
    for (form, content) in forms {
        for name in ["data", "data.jsonl", "data.parquet"] {
            assert_eq!(read(name, content.clone()), expected, "{form}, called {name}");
        }
    }
}

#[test]
fn files_are_read_from_the_disk_as_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    for content in [parquet(&batch()), arrow_file(&batch()), b"{\"text\": \"a\"}".to_vec()] {
        let expected = read("data", content.clone());
        std::fs::write(&path, content).unwrap();
        assert_eq!(open(&path).unwrap().count(), expected.len());
    }
    let refused = open(folder.path()).err().unwrap().to_string();
    assert!(refused.contains("expected a file, found a folder"), "{refused}");
}

#[test]
fn a_row_stands_where_it_begins() {
    let lines = |content: &str| -> Vec<usize> {
        located("a", content).into_iter().map(|(line, _)| line).collect()
    };
    assert_eq!(lines("{\"a\": 1}\n\n{\"a\": 2}"), [1, 3]);
    assert_eq!(lines("{\"a\": 1}\r{\"a\": 2}\r\n{\"a\": 3}"), [1, 2, 3]);
    assert_eq!(lines("[\n{\"a\": 1},\n\n{\"a\":\n2},{\"a\": 3}]"), [2, 4, 5]);
    assert_eq!(lines("{\n\"a\": 1\n}\n{\n\"a\": 2\n}"), [1, 4]);
    assert_eq!(lines("text,label\n\"a\n\nb\",1\n\nc,0\n"), [2, 6]);
    assert_eq!(lines("text,label\r\"a\r\nb\",1\r\rc,0\r"), [2, 5]);
}

#[test]
fn what_is_not_read_is_named_with_the_way_out() {
    let mut tar = vec![b'a'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let workbook = [&b"PK\x03\x04"[..], &[0; 26], b"[Content_Types].xml"].concat();
    let tensors = [&b"PK\x03\x04"[..], &[0; 26], b"archive/data.pkl"].concat();
    for (content, found, remedy) in [
        (b"\xfd7zXZ\0\0\x04".to_vec(), "xz data", "xz -d"),
        (b"BZh91AY&SY\0\x01".to_vec(), "bzip2", "bunzip2"),
        (b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), "7z archive", "unpack"),
        (b"PK\x03\x04 no more".to_vec(), "zip archive", "unpack"),
        (workbook, "Excel", "CSV"),
        (tensors, "PyTorch", "JSON Lines"),
        (tar.clone(), "tar archive", "unpack"),
        (gzip(&tar), "tar archive", "unpack"),
        (b"SQLite format 3\0more".to_vec(), "SQLite", "export"),
        (b"\x80\x04\x95more".to_vec(), "pickle", "Python"),
        (b"%PDF-1.7\n1 0\0".to_vec(), "PDF", "the data itself"),
        (b"FEA1\0\0\0\0".to_vec(), "Feather file of version 1", "Parquet"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "HTML page", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "Git LFS", "git lfs pull"),
        (b"\xff\xfe\0\0{\0\0\0".to_vec(), "UTF-32", "UTF-8"),
        (b"\0\x01\x02\x03\x04".to_vec(), "binary data", "JSON Lines"),
    ] {
        let message = error("a", content);
        assert!(message.starts_with("a: expected rows as JSON Lines"), "{message}");
        assert!(message.contains(found) && message.contains(remedy), "{message}");
    }
}

#[test]
fn a_table_may_begin_with_the_letters_of_another_form() {
    let table = "PARENT,prompt\nx,a\n";
    assert_eq!(read("a.csv", table), [json!({"PARENT": "x", "prompt": "a"})]);
    assert_eq!(
        read("a", table.replace("PARENT", "ORC id")),
        [json!({"ORC id": "x", "prompt": "a"})]
    );
}

#[test]
fn a_container_that_is_cut_or_damaged_is_an_error_of_the_file() {
    let lines: String = (0..3000).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect();
    for whole in [gzip(lines.as_bytes()), zstd(lines.as_bytes())] {
        let cut = error("a", &whole[..whole.len() - 9]);
        assert!(cut.contains("data is cut short in line"), "{cut}");
        let mut damaged = whole.clone();
        let middle = whole.len() / 2;
        damaged[middle..middle + 40].iter_mut().for_each(|byte| *byte ^= 0x55);
        let damaged = error("a", damaged);
        assert!(damaged.contains("data is damaged") || damaged.contains("cut short"), "{damaged}");
    }
    for (form, whole) in [
        ("Parquet", parquet(&batch())),
        ("Arrow", stream(&batch())),
        ("Arrow", arrow_file(&batch())),
    ] {
        // Wherever the cut is, also between two messages of a stream.
        for len in 8..whole.len() {
            let cut = error("a", &whole[..len]);
            assert!(cut.contains(&format!("cannot be read as {form}")), "{len}: {cut}");
        }
    }
    // What is damaged within may be an error or other rows, and no panic.
    for whole in [parquet(&batch()), stream(&batch()), arrow_file(&batch())] {
        for at in 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            if let Ok(rows) = open_bytes("a", damaged) {
                rows.for_each(drop);
            }
        }
    }
    let twice = [stream(&batch()), stream(&batch())].concat();
    assert!(error("a", twice).contains("more follows the end of the stream"));
    insta::assert_snapshot!(error("a", "[{\"a\": 1},\n{\"a\": "), @"a: truncated JSON: expected a list that ends with `]`; copy it again");
    insta::assert_snapshot!(error("a", "{\n\"a\": 1\n}\n{\n\"a\":"), @"a: truncated JSON: expected an object that ends with `}`; copy it again");
    insta::assert_snapshot!(error("a", "[{\"a\": 1}]\n[{\"a\": 2}]"), @"a: expected nothing after the list, found more in line 2; write one JSON object a line");
    insta::assert_snapshot!(error("a.csv", "text,label\na,1\n\"b,0\nc,1\n"), @"a.csv: expected a closing quote for the field that begins in line 3, found the end of the file; close the quote, or copy the file again");
    let odd = [&utf16("{\"a\": \"bcd\"}\n", false)[..], b"{"].concat();
    insta::assert_snapshot!(error("a", odd), @"a: the file is cut short in line 1; copy or download it again");
}

#[test]
fn a_bad_row_is_one_row() {
    let half = r#"{"text": "b \ud83d"}"#;
    let rows = located("a", format!("oops\n{{\"text\": \"a\"}}\n[1]\n{half}\n"));
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[1], (2, json!({"text": "a"})));
    // Half a pair of UTF-16 is a bad row as well, and the next one is none.
    let mut units = utf16("{\"text\": \"a b\"}\n{\"text\": \"c\"}\n", false);
    let at = units.chunks(2).position(|it| it == [b' ', 0]).unwrap() * 2;
    units[at + 10..at + 12].copy_from_slice(&[0x3d, 0xd8]);
    let rows = located("a", units);
    assert!(rows[0].1.as_str().is_some_and(|it| it.contains("expected UTF-8")), "{rows:?}");
    assert_eq!(rows[1], (2, json!({"text": "c"})));
}

#[test]
fn the_rows_of_a_table_that_go_wrong_are_bad_rows() {
    let rows = located("a.csv", b"text,label\na\n\"b\" c,1\n\xe9,1\nd,0\n".to_vec());
    insta::assert_snapshot!(rows[0].1, @r#""expected 2 columns as in the first line, found 1; quote fields that hold commas, quotes or line ends""#);
    insta::assert_snapshot!(rows[1].1, @r#""expected a comma or the end of the line after a closing quote, found more text; double the quotes inside of a quoted field""#);
    insta::assert_snapshot!(rows[2].1, @r#""expected UTF-8, found something else in column 1; convert the file to UTF-8""#);
    assert_eq!(rows[3], (5, json!({"text": "d", "label": 0})));
    insta::assert_snapshot!(error("a.csv", "text,text\na,b\n"), @"a.csv: line 1, the names of the columns: expected every name once, found `text` twice; rename one");
}

#[test]
fn an_object_of_columns_or_of_several_lists_is_refused_by_name() {
    let rows = json!([{"text": "a"}, {"text": "b"}]);
    let both = error("a", json!({"train": rows, "test": rows}).to_string());
    assert!(both.contains("found `train`, `test`; write each list to a file"), "{both}");
    for columns in [
        json!({"prompt": {"0": "a", "1": "b"}, "chosen": {"0": "c", "1": "d"}}),
        json!({"prompt": ["a", "b"], "chosen": ["c", "d"]}),
    ] {
        let message = error("a", columns.to_string());
        assert!(message.contains("found one JSON object of columns"), "{message}");
    }
    // A record whose fields are lists is a record.
    let group = json!({"prompt_ids": [1, 2], "completion_ids": [[3], [4]], "rewards": [1, 0]});
    assert_eq!(read("a", group.to_string()), [group]);
    let record = json!({"messages": [{"role": "user", "content": "a"}], "id": 1});
    assert_eq!(read("a", record.to_string()), std::slice::from_ref(&record));
    for record in [
        json!({"query": "Who?", "response": "He.", "references": [{"text": "A passage."}]}),
        json!({"id": 1, "conversation_a": record["messages"], "conversation_b": record["messages"]}),
        json!({"winner": "a", "one": [{"text": "a"}], "two": [{"text": "b"}]}),
    ] {
        assert_eq!(read("a", record.to_string()), [record]);
    }
    let holder = json!({"version": "1.1", "Description": "Reviews.", "data": rows});
    assert_eq!(json!(read("a", holder.to_string())), rows);
    assert_eq!(read("a", serde_json::to_string_pretty(&record).unwrap()), [record]);
}

#[test]
fn an_integer_that_would_lose_digits_is_refused_in_every_layout_of_objects() {
    let record = r#"{"id": 18446744073709551617, "prompt": "a"}"#;
    let pretty = record.replace(", ", ",\n");
    for content in [
        record.to_owned(),
        format!("{record}\n{record}\n"),
        pretty.clone(),
        format!("{pretty}\n{pretty}\n"),
        format!("[{record}]"),
        format!(r#"{{"data": [{record}]}}"#),
    ] {
        let rows = read("a", content.clone());
        let is_refused = |row: &Value| row.as_str().is_some_and(|it| it.contains("lose digits"));
        assert!(!rows.is_empty() && rows.iter().all(is_refused), "{content}: {rows:?}");
    }
}

#[test]
fn values_of_columns_keep_what_they_say() {
    let keys: DictionaryArray<Int32Type> = ["x", "y", "x"].into_iter().collect();
    let columns: [(&str, ArrayRef); 8] = [
        ("view", Arc::new(StringViewArray::from(vec![Some("a"), None, Some("c")]))),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
        ("key", Arc::new(keys)),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("score", Arc::new(Float64Array::from(vec![0.5, f64::NAN, -1e9]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![0, 1, 86_400_000]))),
        ("image", Arc::new(BinaryArray::from(vec![&b"\xff\xd8"[..], b"text", b""]))),
        ("number", Arc::new(Int64Array::from(vec![i64::MAX, -1, 0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let expected = [
        json!({"view": "a", "large": "a", "key": "x", "flag": true, "score": 0.5, "at": "1970-01-01T00:00:00", "image": {"bytes": 2}, "number": i64::MAX}),
        json!({"large": "b", "key": "y", "at": "1970-01-01T00:00:00.001", "image": "text", "number": -1}),
        json!({"view": "c", "large": "c", "key": "x", "flag": false, "score": -1e9, "at": "1970-01-02T00:00:00", "image": "", "number": 0}),
    ];
    for content in [parquet(&batch), stream(&batch), arrow_file(&batch)] {
        assert_eq!(read("a", content), expected);
    }
    let decimals = Decimal128Array::from(vec![18_446_744_073_709_551_617, 5]);
    let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(38, 0).unwrap());
    let batch = RecordBatch::try_from_iter([("id", decimals)]).unwrap();
    let ids = [json!({"id": "18446744073709551617"}), json!({"id": 5})];
    assert_eq!(read("a", stream(&batch)), ids);
    let prompts: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\xff\xd8"[..]]));
    let batch = RecordBatch::try_from_iter([("prompt", prompts)]).unwrap();
    insta::assert_snapshot!(read("a", stream(&batch))[0], @r#""`prompt`: expected text, found 2 bytes of binary data; write the column as strings""#);
}

#[test]
fn classes_of_a_sentiment_are_read_by_their_names_and_not_by_their_numbers() {
    let labels = |names: Value| -> Vec<Value> {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let labels: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
        let batch = RecordBatch::try_from_iter([("text", texts), ("label", labels)]).unwrap();
        let info = json!({"info": {"features": {
            "text": {"dtype": "string", "_type": "Value"},
            "label": {"names": names, "_type": "ClassLabel"},
        }}});
        let metadata = [("huggingface", info.to_string())];
        let schema = batch.schema().as_ref().clone().with_metadata(metadata);
        let batch = batch.with_schema(Arc::new(schema)).unwrap();
        let rows = [parquet(&batch), stream(&batch), arrow_file(&batch)].map(|it| read("a", it));
        assert!(rows[0] == rows[1] && rows[1] == rows[2], "{rows:?}");
        rows[0].iter().map(|row| row["label"].clone()).collect()
    };
    assert_eq!(labels(json!(["neg", "pos", "unsup"])), [json!(0), json!(1), json!("unsup")]);
    assert_eq!(labels(json!(["pos", "neg"])), [1, 0, 2]);
    let three = [json!(0), json!("neutral"), json!(1)];
    assert_eq!(labels(json!(["Negative", "neutral", "Positive"])), three);
    assert_eq!(labels(json!(["world", "sports", "business"])), [0, 1, 2]);
}

/// Messages as Arrow keeps them: all with the fields of any.
fn messages_with_gaps() -> RecordBatch {
    let field = |name| Field::new(name, DataType::Utf8, true);
    let fields = vec![field("role"), field("content"), field("tool_calls"), field("name")];
    let texts = || Box::new(StringBuilder::new()) as Box<dyn arrow_array::builder::ArrayBuilder>;
    let message = StructBuilder::new(fields, (0..4).map(|_| texts()).collect());
    let mut lists = ListBuilder::new(message);
    for row in [
        [Some("user"), Some("Hi"), None, None],
        [Some("assistant"), None, Some("[1]"), None],
        [Some("tool"), Some("2"), None, Some("add")],
    ] {
        for (number, value) in row.into_iter().enumerate() {
            let column = lists.values().field_builder::<StringBuilder>(number).unwrap();
            column.append_option(value);
        }
        lists.values().append(true);
    }
    lists.append(true);
    let messages: ArrayRef = Arc::new(lists.finish());
    RecordBatch::try_from_iter([("messages", messages)]).unwrap()
}

#[test]
fn nulls_that_arrow_filled_in_are_gone() {
    let expected = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": "[1]"},
        {"role": "tool", "content": "2", "name": "add"},
    ]});
    for content in [parquet(&messages_with_gaps()), stream(&messages_with_gaps())] {
        assert_eq!(read("a", content), std::slice::from_ref(&expected));
    }
    let lines = r#"{"id": {"a": null}, "messages": [{"role": "user", "content": "Hi", "name": null}], "rewards": [null, 1]}"#;
    let expected = json!({"id": {"a": null}, "messages": [{"role": "user", "content": "Hi"}], "rewards": [null, 1]});
    assert_eq!(read("a", lines), [expected]);
    // What records do not read stays as it is.
    let carried = json!({"prompt": "a", "tests": [{"in": null, "out": 3}], "meta": {"k": null}});
    assert_eq!(read("a", carried.to_string()), [carried]);
}

#[test]
fn lists_that_were_written_as_text_are_the_lists_they_were() {
    let messages = json!([
        {"role": "user", "content": "it's \"so\"\n\t\\ é 🙂"}, {"role": "assistant", "content": "a, 'b'"}
    ]);
    let python = r#"[{'role': 'user', 'content': 'it\'s "so"\n\t\\ \xe9 \U0001f642'}, {'role': 'assistant', 'content': "a, 'b'"}]"#;
    let numpy = python.replace("}, {", "}\n {");

    for text in [python, &numpy, &messages.to_string()] {
        for field in ["prompt", "chosen", "rejected", "completion", "messages"] {
            let row = json!({ field: text }).to_string();
            let mut rows = open_bytes("a", row.clone()).unwrap();
            rows.next().unwrap().unwrap().1.unwrap();
            assert_eq!(rows.lists_as_text()[field], 1);
            assert_eq!(read("a", row)[0][field], messages, "{field}: {text}");
        }
    }
    let table = format!("prompt,label\n\"{}\",True\n", python.replace('"', "\"\""));
    assert_eq!(read("a.csv", table), [json!({"prompt": messages, "label": true})]);
    let sharegpt = json!({"conversations": "[{'from': 'human', 'value': 'Hi', 'weight': None}]"});
    let expected = json!({"conversations": [{"from": "human", "value": "Hi"}]});
    assert_eq!(read("a", sharegpt.to_string()), [expected]);
    let one = json!({"chosen": "{'role': 'assistant', 'content': 'a'}"});
    assert_eq!(
        read("a", one.to_string()),
        [json!({"chosen": {"role": "assistant", "content": "a"}})]
    );
    let python = json!({"tools": "[{'name': 'add', 'default': None}]"});
    assert_eq!(read("a", python.to_string()), [json!({"tools": [{"name": "add"}]})]);
    // What TRL reads of a JSON text keeps its nulls.
    // The field reads it.
    let tools = json!({"tools": "[{\"name\": \"add\", \"default\": null}]"});
    assert_eq!(read("a", tools.to_string()), [tools]);
}

#[test]
fn a_text_that_is_no_list_of_messages_stays_a_text() {
    for text in [
        "[1, 2, 3]",
        "[{'a': 1}]",
        "[\"role\", \"content\"]",
        "[{'role': 'user', 'content': 'Hi'}] What does this mean?",
        "{'role': 'user'}",
        "[]",
        "Say [{'role': 'user', 'content': 'Hi'}]",
        "[citation needed]",
        "{not JSON}",
    ] {
        for field in ["prompt", "chosen", "text", "output"] {
            let row = json!({ field: text });
            assert_eq!(read("a", row.to_string()), [row]);
        }
    }
    for broken in
        ["[{'role': 'user', 'content': 'Hi'}, ", "[{'role': 'user', 'at': datetime(1, 2)}]"]
    {
        let problem = read("a", json!({"chosen": broken}).to_string())[0].to_string();
        assert!(problem.contains("expected a list of messages"), "{problem}");
    }
    let cut = json!({"prompt": "[{'role': 'user', 'content': 'Hi"});
    insta::assert_snapshot!(read("a", cut.to_string())[0], @r#""`prompt`: expected a list of messages, found a text that begins like one and is none; write the list as JSON""#);
}
