use std::fs;

use super::*;
use crate::files::{DiskList, DiskListWriter};

fn group(prompt: u32, completions: &[&[u32]]) -> TokenGroup {
    let prompt = if prompt == 0 { Vec::new() } else { vec![prompt, 7] };
    let completions = completions.iter().map(|ids| ids.to_vec()).collect();
    TokenGroup { line: 1, prompt, completions, ..TokenGroup::default() }
}

/// Groups of these prompts with two completions, which the prompt tells apart.
fn groups(prompts: impl IntoIterator<Item = u32>) -> DiskList<TokenGroup> {
    let mut list = DiskListWriter::default();
    for prompt in prompts {
        list.push(&group(prompt, &[&[prompt, 4, 5], &[prompt]])).unwrap();
    }
    list.finish().unwrap()
}

/// Numbers that tell the group, the completion and the token.
fn numbers(group: &TokenGroup) -> GroupTokens {
    let number = |(i, &id): (usize, &u32)| -(id as f32) - i as f32 / 8.0;
    let unscored = usize::from(group.prompt.is_empty());
    let completions = group.completions.iter();
    completions.map(|ids| ids.iter().enumerate().map(number).skip(unscored).collect()).collect()
}

fn open(cache: &Path) -> ReferenceStore {
    ReferenceStore::open(cache, "model", 0.8)
}

/// How many groups were computed until `store` had the numbers of all, and that they are right.
fn computed_by(store: &mut ReferenceStore, groups: &DiskList<TokenGroup>) -> usize {
    let found = store.look_up(groups).unwrap();
    let (mut computed, expected) = (0, found.missing.len());
    let compute = |shard: &[TokenGroup]| {
        assert!(shard.len() <= SHARD);
        computed += shard.len();
        Ok(shard.iter().map(numbers).collect())
    };
    let places = store.complete(groups, found, compute).unwrap();
    for (group, place) in groups.iter().zip(places) {
        let group = group.unwrap();
        assert_eq!(store.read(place, &group).unwrap(), numbers(&group));
    }
    assert_eq!(computed, expected);
    computed
}

fn computed(cache: &Path, groups: &DiskList<TokenGroup>) -> usize {
    computed_by(&mut open(cache), groups)
}

fn store_files(cache: &Path) -> Vec<PathBuf> {
    let folder = open(cache).folder;
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn only_what_is_new_is_computed() {
    let cache = tempfile::tempdir().unwrap();
    let of = |prompts: Vec<u32>| computed(cache.path(), &groups(prompts));
    assert_eq!(of((1..=200).collect()), 200);
    assert_eq!(of((1..=200).collect()), 0, "all are there");
    assert_eq!(of([900].into_iter().chain(1..=200).collect()), 1, "a row in front");
    assert_eq!(of((1..=200).filter(|it| it % 3 > 0).collect()), 0, "rows removed");
    assert_eq!(of((1..=200).rev().collect()), 0, "another order");
    assert_eq!(of((150..=260).collect()), 60, "rows added");
    assert_eq!(of(vec![300, 301, 300, 300, 5]), 2, "repeated rows");
    assert_eq!(of(vec![0, 0]), 1, "without a prompt the first token has no number");
    assert_eq!(store_files(cache.path()).len(), 5, "a file each time that something was new");
}

#[test]
fn another_number_of_completions_temperature_or_model_has_numbers_of_its_own() {
    let cache = tempfile::tempdir().unwrap();
    let list = |groups: &[TokenGroup]| {
        let mut list = DiskListWriter::default();
        groups.iter().for_each(|group| list.push(group).unwrap());
        list.finish().unwrap()
    };
    let pairs = list(&[group(1, &[&[2], &[3]]), group(2, &[&[2], &[3]])]);
    assert_eq!(computed(cache.path(), &pairs), 2);
    let triples = list(&[group(1, &[&[2], &[3], &[4]]), group(2, &[&[2], &[3]])]);
    assert_eq!(computed(cache.path(), &triples), 1);
    for (model, temperature) in [("model", 1.0), ("other", 0.8)] {
        let mut store = ReferenceStore::open(cache.path(), model, temperature);
        assert_eq!(computed_by(&mut store, &pairs), 2);
    }
}

#[test]
fn the_groups_beside_a_group_tell_its_numbers_where_that_is_asked() {
    let cache = tempfile::tempdir().unwrap();
    let of = |prompts: &[u32]| {
        let (mut store, groups) = (open(cache.path()), groups(prompts.iter().copied()));
        store.among(&groups).unwrap();
        computed_by(&mut store, &groups)
    };
    assert_eq!([of(&[1, 2]), of(&[1, 2]), of(&[1, 2, 3])], [2, 0, 3]);
    assert_eq!(computed(cache.path(), &groups([1, 2])), 2);
}

#[test]
fn a_damaged_byte_costs_its_group_or_its_file_and_no_wrong_number_is_read() {
    let cache = tempfile::tempdir().unwrap();
    let all = groups(1..=70);
    assert_eq!(computed(cache.path(), &all), 70);
    let path = store_files(cache.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        for damaged in [&bytes[..], &whole[..at]] {
            let again = tempfile::tempdir().unwrap();
            let target = again.path().join(path.strip_prefix(cache.path()).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, damaged).unwrap();
            assert!((1..=70).contains(&computed(again.path(), &all)), "byte {at}");
            assert_eq!(computed(again.path(), &all), 0, "mended for good, byte {at}");
        }
    }
}

#[test]
fn a_killed_process_loses_the_shard_that_it_was_writing() {
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(computed(cache.path(), &groups(1..=300)), 300);
    let path = store_files(cache.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let last_shard = 300 % SHARD;
    // After a power cut, any part of what was written last may be there.
    let mut holed = whole.clone();
    holed[whole.len() - 200] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..whole.len() - 500], &holed] {
        fs::write(&path, damaged).unwrap();
        let mut store = open(cache.path());
        let lost = store.look_up(&groups(1..=300)).unwrap().missing;
        assert_eq!(lost, (300 - last_shard..300).collect::<Vec<_>>(), "all of the shard");
    }
    assert_eq!(computed(cache.path(), &groups(1..=300)), last_shard);
}

#[test]
fn numbers_that_change_while_they_are_used_are_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let mut store = open(cache.path());
    let list = groups([1]);
    let found = store.look_up(&list).unwrap();
    let places = store.complete(&list, found, |shard| Ok(shard.iter().map(numbers).collect()));
    let place = places.unwrap()[0];
    let path = store_files(cache.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = store.read(place, &list.get(0).unwrap()).unwrap_err().to_string();
    assert!(error.contains("start the command again"), "{error}");
}

#[test]
fn two_processes_that_write_at_once_both_keep_what_they_compute() {
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for first in [1, 101] {
            let cache = cache.path();
            scope.spawn(move || {
                let mut store = open(cache);
                for start in (0..150).step_by(10) {
                    computed_by(&mut store, &groups(first + start..first + start + 10));
                }
            });
        }
    });
    assert_eq!(store_files(cache.path()).len(), 2);
    assert_eq!(computed(cache.path(), &groups(1..=250)), 0);
}

#[test]
fn two_processes_that_begin_with_the_same_groups_write_into_files_of_their_own() {
    let cache = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (open(cache.path()), open(cache.path()));
    let numbers = |shard: &[TokenGroup]| Ok(shard.iter().map(numbers).collect());
    let (same, more) = (groups(1..=10), [groups(11..=20), groups(21..=30)]);
    for store in [&mut one, &mut other] {
        let found = store.look_up(&same).unwrap();
        store.complete(&same, found, numbers).unwrap();
    }
    for (store, more) in [&mut one, &mut other].into_iter().zip(&more) {
        assert_eq!(computed_by(store, more), 10);
    }
    assert_eq!(computed(cache.path(), &groups(1..=30)), 0);
}
