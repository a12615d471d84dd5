//! Files of records, in every form that is read.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use exalign::data::{Demonstration, Fields, Group, LabelledText, PromptRecord, Reader, Record};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::mutation::try_all;

fn rows() -> Vec<Value> {
    vec![
        json!({"id": 7, "prompt": "say a", "chosen": "a", "rejected": "b", "label": 1}),
        json!({"prompt_ids": [1, 2], "completion_ids": [[3], [4, 5]], "rewards": [0.5, -1e-3], "finished": [true, false]}),
        json!({"messages": [{"role": "user", "content": "hé\n"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]}),
        json!({"prompt": [{"role": "user", "content": "q"}], "completions": ["x", "y"], "tools": "[]", "chat_template_kwargs": {"a": null}}),
        json!({"text": "one", "label": true, "score_chosen": 4, "history": [["a", "b"]]}),
        json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        json!({"prompt": "p", "chosen": "[{'role': 'assistant', 'content': \"it's\"}]", "rejected": "array([1, 2], dtype=int64)"}),
    ]
}

fn batch() -> RecordBatch {
    let texts = |it: [&str; 3]| Arc::new(StringArray::from(it.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter([
        ("prompt", texts(["p", "q", "r"])),
        ("chosen", texts(["a", "b", "c"])),
        ("rejected", texts(["x", "y", "z"])),
        ("label", Arc::new(Int64Array::from(vec![0, 1, 0])) as ArrayRef),
        ("score", Arc::new(Float64Array::from(vec![0.5, 1.5, -2.0])) as ArrayRef),
    ])
    .unwrap()
}

fn parquet(compression: Compression) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch().schema(), Some(properties)).unwrap();
    writer.write(&batch()).unwrap();
    writer.close().unwrap();
    out
}

fn arrow_stream(compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &batch().schema(), options).unwrap();
    writer.write(&batch()).unwrap();
    writer.into_inner().unwrap()
}

fn arrow_file() -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch().schema()).unwrap();
    writer.write(&batch()).unwrap();
    writer.into_inner().unwrap()
}

fn seeds() -> Vec<Vec<u8>> {
    let lines: String = rows().iter().map(|row| format!("{row}\n")).collect();
    let csv = "prompt,chosen,rejected,label\r\np,a,\"b, \"\"c\"\"\nd\",1\nq,\"['x', 'y']\",y,0\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let wide: Vec<u8> = lines.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let columns = json!({"prompt": {"0": "a"}, "chosen": {"0": "b"}});
    vec![
        lines.clone().into_bytes(),
        json!(rows()).to_string().into_bytes(),
        serde_json::to_vec_pretty(&json!({"version": 1, "data": rows()})).unwrap(),
        rows().iter().map(|row| format!("{row:#}\n")).collect::<String>().into_bytes(),
        columns.to_string().into_bytes(),
        csv.into(),
        csv.replace(',', "\t").into_bytes(),
        format!("sep=;\n{}", csv.replace(',', ";")).into_bytes(),
        gzip.finish().unwrap(),
        zstd::encode_all(lines.as_bytes(), 1).unwrap(),
        [&[0xff, 0xfe], wide.as_slice()].concat(),
        parquet(Compression::UNCOMPRESSED),
        parquet(Compression::SNAPPY),
        parquet(Compression::ZSTD(Default::default())),
        arrow_stream(None),
        arrow_stream(Some(CompressionType::LZ4_FRAME)),
        arrow_stream(Some(CompressionType::ZSTD)),
        arrow_file(),
    ]
}

fn read<R: Record>(bytes: &[u8]) {
    let source = Cursor::new(bytes.to_vec());
    let Ok(reader) = Reader::<R>::new(Path::new("rows"), source, 1000) else { return };
    for row in reader {
        if let Err(error) = row {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        }
    }
}

#[test]
fn files_of_records_are_read_or_refused() {
    let reads: [fn(&[u8]); 5] = [
        read::<Group>,
        read::<Demonstration>,
        read::<LabelledText>,
        read::<PromptRecord>,
        read::<Fields>,
    ];
    try_all("records", 1000, &seeds(), |_, bytes| reads.iter().for_each(|read| read(bytes)));
}

/// Readers take the memory that a length asks for before they look for the bytes: found in packed Arrow.
#[test]
fn a_length_may_be_as_large_as_any_wherever_it_stands() {
    let seeds = seeds();
    for packed in [Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD), None] {
        let whole = arrow_stream(packed);
        assert!(seeds.contains(&whole));
        for at in 0..whole.len() - 8 {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
            read::<Fields>(&bytes);
        }
    }
}
