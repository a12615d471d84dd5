//! Changes to a file, and the runner that tries them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A change. Places are shares of the length, in 65536ths.
#[derive(Clone, Debug)]
pub enum Mutation {
    Flip(u16, u8),
    Truncate(u16),
    Delete(u16, u16),
    Repeat(u16, u16, u8),
    Insert(u16, &'static [u8]),
    Nest(u16, &'static str, u16),
    /// Puts something in the place of a number, word or text of JSON.
    Value(u16, &'static [u8]),
    /// Copies a stretch elsewhere.
    Splice(u16, u16, u16),
}

const VALUES: [&[u8]; 25] = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1",
    b"1.5",
    b"-0.0",
    b"1e308",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"-Infinity",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1000000000000000000",
    b"\"\"",
    b"[]",
    b"{}",
    b"\"\\u0000\"",
];
const BYTES: [&[u8]; 11] = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\n",
    b"\"",
    b",",
    b"\\",
    b"}",
    b"]",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
];
const BRACKETS: [&str; 5] = ["[", "{\"a\":", "(", "[{\"role\":", "{{"];

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<u16>;
    prop_oneof![
        2 => (place(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => place().prop_map(Mutation::Truncate),
        1 => (place(), 0..2048u16).prop_map(|(at, len)| Mutation::Delete(at, len)),
        1 => (place(), 0..4096u16, 1..40u8).prop_map(|(at, len, times)| Mutation::Repeat(at, len, times)),
        2 => (place(), prop::sample::select(&BYTES[..])).prop_map(|(at, it)| Mutation::Insert(at, it)),
        1 => (place(), prop::sample::select(&BRACKETS[..]), 1..5000u16).prop_map(|(at, it, depth)| Mutation::Nest(at, it, depth)),
        6 => (place(), prop::sample::select(&VALUES[..])).prop_map(|(at, it)| Mutation::Value(at, it)),
        1 => (place(), place(), 0..8192u16).prop_map(|(from, len, to)| Mutation::Splice(from, len, to)),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |share: u16| bytes.len() * usize::from(share) / 65536;
        let stretch = |from: u16, len: u16| {
            let start = place(from);
            start..(start + 1 + place(len)).min(bytes.len())
        };
        match *self {
            Self::Flip(at, bit) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Truncate(at) => bytes.truncate(place(at)),
            Self::Delete(from, len) => drop(bytes.drain(stretch(from, len))),
            Self::Repeat(from, len, times) => {
                let range = stretch(from, len);
                let again = bytes[range.clone()].repeat(times.into());
                bytes.splice(range.end..range.end, again);
            }
            Self::Insert(at, what) => {
                let at = place(at);
                bytes.splice(at..at, what.iter().copied());
            }
            Self::Nest(at, bracket, depth) => {
                let at = place(at);
                bytes.splice(at..at, bracket.repeat(depth.into()).into_bytes());
            }
            Self::Value(at, value) => {
                let at = place(at);
                bytes.splice(value_at(bytes, at), value.iter().copied());
            }
            Self::Splice(from, to, len) => {
                let copy = bytes[stretch(from, len)].to_vec();
                let at = place(to);
                bytes.splice(at..at, copy);
            }
        }
    }
}

/// The value of JSON that begins at or after a place.
fn value_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let begins = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'"');
    let Some(start) = bytes[at..].iter().position(begins).map(|it| at + it) else { return at..at };
    let rest = &bytes[start + 1..];
    let len = match bytes[start] {
        b'"' => rest.iter().position(|&it| it == b'"').map_or(0, |it| it + 1),
        _ => rest.iter().position(|it| !begins(it) && !b".+".contains(it)).unwrap_or(rest.len()),
    };
    start..start + 1 + len
}

/// Where the input at work stands.
fn at_work(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutated-{kind}"))
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |it| it.parse().unwrap_or_else(|_| panic!("{name}: {it}")))
}

/// Reads every seed as it is, and then `cases` changed ones. `read` gets the number of the seed.
pub fn try_all(kind: &str, cases: u32, seeds: &[Vec<u8>], read: impl Fn(usize, &[u8])) {
    let patience = Duration::from_secs(60);
    let (tick, ticks) = mpsc::channel();
    let (name, over) = (kind.to_owned(), std::sync::Arc::new(AtomicBool::new(false)));
    let is_over = over.clone();
    let watch = std::thread::spawn(move || {
        while ticks.recv_timeout(patience).is_ok() {}
        if !is_over.load(Ordering::SeqCst) {
            eprintln!("{} takes more than {patience:?}", at_work(&name).display());
            std::process::abort();
        }
    });
    let try_one = |seed: usize, bytes: &[u8]| {
        std::fs::write(at_work(kind), bytes).unwrap();
        tick.send(()).unwrap();
        read(seed, bytes);
    };
    seeds.iter().enumerate().for_each(|(number, seed)| try_one(number, seed));
    let config = Config {
        cases: number("EXALIGN_CASES", cases),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number("EXALIGN_SEED", 18).to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let strategy = (0..seeds.len(), proptest::collection::vec(mutation(), 1..4));
    let outcome = TestRunner::new_with_rng(config, random).run(&strategy, |(seed, mutations)| {
        let mut bytes = seeds[seed].clone();
        mutations.iter().for_each(|it| it.apply(&mut bytes));
        try_one(seed, &bytes);
        Ok(())
    });
    over.store(true, Ordering::SeqCst);
    drop(tick);
    watch.join().unwrap();
    if let Err(error) = outcome {
        panic!("{kind}: {error}; the input is {}", at_work(kind).display());
    }
}
