//! The store of reference log-probs: they are computed once and read from then on.
//!
//! A shard holds the per-token log-probs of a run of groups. Its name is the hash of the model, the
//! temperature and the groups' tokens. So every command that needs the same numbers finds them, whatever
//! device computed them, and no other command does.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::data::TokenGroup;
use crate::files::{sweep_stale, write_atomic};

/// Groups in one shard: what an interrupted computation loses at most.
const SHARD: usize = 64;

/// Reference log-probs of one model at one temperature.
#[derive(Clone, Debug)]
pub struct ReferenceStore {
    folder: PathBuf,
    model: String,
    temperature: f64,
}

impl ReferenceStore {
    /// The store under `cache` for the model with content hash `model`.
    pub fn new(cache: &Path, model: &str, temperature: f64) -> Self {
        Self { folder: cache.join("reference"), model: model.to_owned(), temperature }
    }

    /// The log-prob of every scored token of every completion of every group, `[group][completion][token]`,
    /// from the store; `compute` is asked for those that are not there.
    pub fn log_probs(
        &self,
        groups: &[TokenGroup],
        mut compute: impl FnMut(&[TokenGroup]) -> Result<Vec<Vec<Vec<f32>>>>,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut all = Vec::with_capacity(groups.len());
        for shard in groups.chunks(SHARD) {
            let path = self.path(shard);
            let lengths: Vec<usize> = shard.iter().flat_map(scored_lengths).collect();
            let values = match read_shard(&path, lengths.iter().sum()) {
                Some(values) => values,
                None => {
                    sweep_stale(&self.folder);
                    let values: Vec<f32> =
                        compute(shard)?.into_iter().flatten().flatten().collect();
                    write_shard(&path, &values)?;
                    values
                }
            };
            let mut values = values.into_iter();
            for group in shard {
                let of_completion = |len: usize| values.by_ref().take(len).collect();
                all.push(scored_lengths(group).map(of_completion).collect());
            }
        }
        Ok(all)
    }

    /// Number of completions whose shard is not there.
    pub fn num_missing(&self, groups: &[TokenGroup]) -> usize {
        groups
            .chunks(SHARD)
            .filter(|shard| {
                read_shard(&self.path(shard), shard.iter().flat_map(scored_lengths).sum()).is_none()
            })
            .flatten()
            .map(|group| group.completions.len())
            .sum()
    }

    fn path(&self, shard: &[TokenGroup]) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"reference log-probs, f32, 1");
        hasher.update(self.model.as_bytes());
        hasher.update(&self.temperature.to_le_bytes());
        let mut tokens = |ids: &[u32]| {
            hasher.update(&(ids.len() as u64).to_le_bytes());
            hasher.update(bytemuck::cast_slice(ids));
        };
        for group in shard {
            tokens(&group.prompt);
            tokens(&[group.completions.len() as u32]);
            group.completions.iter().for_each(|ids| tokens(ids));
        }
        self.folder.join(format!("{}.f32", hasher.finalize().to_hex()))
    }
}

/// Scored tokens of each completion: all, but the first after an empty prompt.
fn scored_lengths(group: &TokenGroup) -> impl Iterator<Item = usize> + '_ {
    let unscored = usize::from(group.prompt.is_empty());
    group.completions.iter().map(move |ids| ids.len().saturating_sub(unscored))
}

/// The values, then their hash. A damaged shard is none.
fn read_shard(path: &Path, len: usize) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).ok()?;
    let (values, hash) = bytes.split_at_checked(4 * len)?;
    (blake3::hash(values).as_bytes() == hash).then(|| bytemuck::pod_collect_to_vec(values))
}

fn write_shard(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    write_atomic(path, |writer| {
        writer.write_all(bytes)?;
        writer.write_all(blake3::hash(bytes).as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(prompt: &[u32], completions: &[&[u32]]) -> TokenGroup {
        TokenGroup {
            id: None,
            line: 1,
            prompt: prompt.to_vec(),
            completions: completions.iter().map(|ids| ids.to_vec()).collect(),
            ..TokenGroup::default()
        }
    }

    fn one_for_each_token(groups: &[TokenGroup]) -> Vec<Vec<Vec<f32>>> {
        groups.iter().map(|it| scored_lengths(it).map(|len| vec![-1.0; len]).collect()).collect()
    }

    #[test]
    fn what_is_stored_is_not_computed_twice_and_damage_is_noticed() {
        let cache = tempfile::tempdir().unwrap();
        let groups = [group(&[1, 2], &[&[3, 4], &[5]]), group(&[], &[&[3, 4], &[5]])];
        let store = ReferenceStore::new(cache.path(), "model", 0.8);
        let mut computed = 0;
        let mut ask = |store: &ReferenceStore| {
            let sums = store.log_probs(&groups, |shard| {
                computed += 1;
                Ok(one_for_each_token(shard))
            });
            let sum = |group: &Vec<Vec<f32>>| group.iter().map(|it| it.iter().sum()).collect();
            let sums: Vec<Vec<f32>> = sums.unwrap().iter().map(sum).collect();
            assert_eq!(sums, [[-2.0, -1.0], [-1.0, 0.0]]);
            computed
        };
        assert_eq!(ask(&store), 1);
        assert_eq!(ask(&store), 1);
        assert_eq!(ask(&ReferenceStore::new(cache.path(), "model", 1.0)), 2);
        let shard = store.path(&groups);
        let mut bytes = std::fs::read(&shard).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&shard, bytes).unwrap();
        assert_eq!(store.num_missing(&groups), 4);
        assert_eq!(ask(&store), 3);
    }
}
