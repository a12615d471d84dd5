//! An event file of TensorBoard.
//!
//! The file is a sequence of records: the length as a little-endian u64, the masked CRC-32C of the length, the
//! message `Event`, the masked CRC-32C of the message. The crates that write such files bring an older
//! `prost` and a compiler of protocol buffers, or have not been kept; the messages that scalars need are
//! four, and written here.
//!
//! A start writes the steps of `metrics.jsonl` into a fresh file and then removes the training's earlier
//! file. So no step is lost or shown twice, whenever the process was killed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::Value;

use super::figures;
use crate::files::{create_dir, write_atomic};
use crate::{Error, Result};

/// The version that the first record of every event file names.
const VERSION: &str = "brain.Event:2";
/// The status of a session that starts: a reader forgets what it knows of this step and the later ones.
const START: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    // Zero is a value as well.
    #[prost(float, optional, tag = "2")]
    value: Option<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The event file of a training, open at its end.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A fresh file in `folder` with the steps of `lines`, instead of earlier files of the training in the
    /// folder `training`.
    ///
    /// # Errors
    /// If the folder or the file cannot be written.
    pub fn replace(folder: &Path, training: &Path, lines: &[Value]) -> Result<Self> {
        create_dir(folder)?;
        let suffix = suffix(training);
        let now = seconds_since_1970();
        let path = folder.join(format!("events.out.tfevents.{now:017.6}.{suffix}"));
        let session = SessionLog { status: START };
        let mut bytes = record(now, 0, What::FileVersion(VERSION.to_owned()));
        bytes.extend(record(now, 0, What::SessionLog(session)));
        // When the steps were taken is not kept, but how long each took is.
        let mut before: f64 = lines.iter().map(seconds).sum();
        for line in lines {
            before -= seconds(line);
            bytes.extend(step(now - before, line));
        }
        write_atomic(&path, |writer| writer.write_all(&bytes))?;
        remove_others(folder, &suffix, &path)?;
        let file =
            OpenOptions::new().append(true).open(&path).map_err(Error::io(&path, "write"))?;
        Ok(Self { path, file })
    }

    /// Adds a step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn append(&mut self, line: &Value) -> Result<()> {
        let bytes = step(seconds_since_1970(), line);
        self.file.write_all(&bytes).map_err(Error::io(&self.path, "write"))
    }
}

/// How the names of a training's event files end, which those of other trainings in the same folder do not.
fn suffix(training: &Path) -> String {
    let place = training.canonicalize().unwrap_or_else(|_| training.to_owned());
    let hash = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    format!("exalign-{}", &hash[..12])
}

fn remove_others(folder: &Path, suffix: &str, keep: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != keep) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("events.out.tfevents.") && name.ends_with(suffix) {
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).as_ref().map_or(0.0, Duration::as_secs_f64)
}

fn seconds(line: &Value) -> f64 {
    line["seconds"].as_f64().unwrap_or_default()
}

/// The record of a step's line of metrics.
fn step(wall_time: f64, line: &Value) -> Vec<u8> {
    let scalar =
        |figure: &figures::Figure| Scalar { tag: figure.tag(), value: Some(figure.value as f32) };
    let values = figures::figures(line).iter().map(scalar).collect();
    record(wall_time, line["step"].as_i64().unwrap_or_default(), What::Summary(Summary { values }))
}

fn record(wall_time: f64, step: i64, what: What) -> Vec<u8> {
    let message = Event { wall_time, step, what: Some(what) }.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let parts = [&length[..], &masked_crc(&length), &message, &masked_crc(&message)];
    parts.concat()
}

/// The checksum of a record's part, as TensorFlow masks it.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(number: usize) -> Value {
        json!({ "step": number, "loss": 1.0 / number as f64, "seconds": 2.0, "tokens": 10 })
    }

    /// CRC-32C bit by bit.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |state, &byte| {
            (0..8).fold(state ^ u32::from(byte), |state, _| {
                (state >> 1) ^ (0x82f6_3b78 & (state & 1).wrapping_neg())
            })
        })
    }

    /// The messages of a file, with lengths and checksums checked.
    fn events(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut take = |count: usize| {
            let (part, tail) = rest.split_at(count.min(rest.len()));
            rest = tail;
            part.to_vec()
        };
        let mut events = Vec::new();
        loop {
            let length = take(8);
            if length.is_empty() {
                return events;
            }
            let mut checked = |part: &[u8]| {
                let masked = u32::from_le_bytes(take(4).try_into().unwrap());
                assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), crc(part));
            };
            checked(&length);
            let message = take(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let masked = u32::from_le_bytes(take(4).try_into().unwrap());
            assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), crc(&message));
            events.push(Event::decode(&message[..]).unwrap());
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// The steps of the events that have scalars, each with its loss.
    fn losses(events: &[Event]) -> Vec<(i64, f32)> {
        let loss = |event: &Event| match &event.what {
            Some(What::Summary(summary)) => {
                let scalar = summary.values.iter().find(|scalar| scalar.tag == "train/loss")?;
                Some((event.step, scalar.value?))
            }
            _ => None,
        };
        events.iter().filter_map(loss).collect()
    }

    #[test]
    fn a_file_that_is_started_again_has_every_step_once() {
        let place = tempfile::tempdir().unwrap();
        let (folder, training) = (place.path().join("events"), place.path().join("out"));
        let mut killed = EventFile::replace(&folder, &training, &[]).unwrap();
        (1..=4).for_each(|number| killed.append(&line(number)).unwrap());
        drop(killed);
        // Another training's file in the same folder stays.
        EventFile::replace(&folder, &place.path().join("other"), &[line(1)]).unwrap();
        let kept: Vec<Value> = (1..=2).map(line).collect();
        let mut resumed = EventFile::replace(&folder, &training, &kept).unwrap();
        (3..=5).for_each(|number| resumed.append(&line(number)).unwrap());
        let ours = suffix(&training);
        let files = files(&folder);
        let ours = files.iter().filter(|path| path.to_string_lossy().ends_with(&ours));
        let ours: Vec<&PathBuf> = ours.collect();
        assert_eq!((files.len(), ours.len()), (2, 1), "{files:?}");
        let events = events(ours[0]);
        assert_eq!(events[0].what, Some(What::FileVersion(VERSION.to_owned())));
        assert_eq!(events[1].what, Some(What::SessionLog(SessionLog { status: START })));
        let expected: Vec<(i64, f32)> = (1..=5).map(|i| (i, 1.0 / i as f32)).collect();
        assert_eq!(losses(&events), expected);
        let apart = events[3].wall_time - events[2].wall_time;
        assert!((apart - 2.0).abs() < 1e-3, "steps lie as far apart as they took: {apart}");
    }
}
