//! `--shard i/n`: the part of a file's records that one process works on.
//!
//! A record's numbers must not depend on the process that computes them, to the last bit. The records that
//! share a batch decide how sums are rounded. So the whole file is cut into blocks of records of similar
//! length, every block is computed as a whole, and a shard is every n-th block.

use std::cmp::Ordering;
use std::path::Path;
use std::str::FromStr;

use exalign::data::TokenGroup;
use exalign::{Error, Result, files};
use serde::{Deserialize, Serialize};

/// Records in a block, where nothing else says how many are worked on together.
const BLOCK: usize = 32;

/// Shard `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Shard {
    /// All of the records.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// This shard's part of the records in `order`, in blocks of `size`.
    ///
    /// # Errors
    /// If there are fewer blocks than shards: some shard would have nothing to do.
    pub fn of(self, order: &[usize], size: usize) -> Result<Portion> {
        let num_blocks = order.len().div_ceil(size);
        if self.count > num_blocks.max(1) {
            return Err(Error::usage(format!(
                "--shard {}/{}: expected at most {num_blocks} shards, since the {} records are worked on \
                 {size} at a time; use fewer, or for samples a smaller generation.batch_size",
                self.index,
                self.count,
                order.len()
            )));
        }
        let blocks = order.chunks(size).skip(self.index - 1).step_by(self.count);
        Ok(Portion { blocks: blocks.map(<[usize]>::to_vec).collect(), num_records: order.len() })
    }

    /// This shard's part of groups of tokens.
    ///
    /// # Errors
    /// The same; the first error among the groups.
    pub fn of_groups(self, groups: impl Iterator<Item = Result<TokenGroup>>) -> Result<Portion> {
        let size = |group: TokenGroup| (group.completions.len(), group.num_tokens());
        let sizes: Vec<_> = groups.map(|group| group.map(size)).collect::<Result<_>>()?;
        self.of_sizes(&sizes)
    }

    /// This shard's part of groups of so many completions and tokens.
    ///
    /// # Errors
    /// The same.
    pub fn of_sizes(self, sizes: &[(usize, usize)]) -> Result<Portion> {
        self.of(&order_by(sizes, Ord::cmp), BLOCK)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(index, count)| {
            Some(Self { index: index.parse().ok()?, count: count.parse().ok()? })
        });
        parsed.filter(|it| (1..=it.count).contains(&it.index)).ok_or_else(|| {
            format!("expected i/n with i from 1 to n, such as 1/4 to 4/4, found `{text}`")
        })
    }
}

/// The indices of `items` in the order that `compare` says, equal ones as they stand.
pub fn order_by<T>(items: &[T], compare: impl Fn(&T, &T) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&one, &two| compare(&items[one], &items[two]));
    order
}

/// The records of a shard, by their indices in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Portion {
    /// Records that are worked on together.
    pub blocks: Vec<Vec<usize>>,
    /// Records of the whole file.
    pub num_records: usize,
}

impl Portion {
    /// Its records in the file's order.
    pub fn records(&self) -> Vec<usize> {
        let mut records = self.blocks.concat();
        records.sort_unstable();
        records
    }

    /// For each of its records in the file's order, its place in the order of the blocks.
    pub fn places(&self) -> Vec<usize> {
        order_by(&self.blocks.concat(), Ord::cmp)
    }

    /// Its records' entries in `all`, in the file's order.
    pub fn take<T: Clone>(&self, all: &[T]) -> Vec<T> {
        self.records().into_iter().map(|record| all[record].clone()).collect()
    }

    /// The items of each block.
    pub fn items<T: Clone>(&self, all: &[T]) -> Vec<Vec<T>> {
        let items = |block: &Vec<usize>| block.iter().map(|&record| all[record].clone()).collect();
        self.blocks.iter().map(items).collect()
    }

    /// The results of `work` on the items of each block, one an item, by record; the default for records of
    /// other shards.
    pub fn by_record<T: Clone, R: Clone + Default>(
        &self,
        items: &[T],
        mut work: impl FnMut(&[T]) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        let mut made = vec![R::default(); self.num_records];
        for block in &self.blocks {
            let items: Vec<T> = block.iter().map(|&record| items[record].clone()).collect();
            for (&record, result) in block.iter().zip(work(&items)?) {
                made[record] = result;
            }
        }
        Ok(made)
    }
}

/// A shard's output in a stage's summary, so that the shards can be merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardOutput {
    /// The records of the whole file that the output's lines were made from.
    pub shard_records: Vec<usize>,
    /// The hash of the output's content.
    pub shard_content: String,
}

impl ShardOutput {
    /// Of `shard`, if it is one, whose output is the file `out`, made from the records `shard_records`.
    ///
    /// # Errors
    /// If the output cannot be read.
    pub fn of(shard: Option<Shard>, shard_records: Vec<usize>, out: &Path) -> Result<Option<Self>> {
        let output = |_| {
            let shard_content = files::hash_file(out)?;
            Ok(Self { shard_records, shard_content })
        };
        shard.map(output).transpose()
    }
}

/// The values of every shard, put in the order of the whole file's records.
pub fn in_file_order<T>(parts: impl IntoIterator<Item = (Vec<usize>, Vec<T>)>) -> Vec<T> {
    let mut all: Vec<(usize, T)> =
        parts.into_iter().flat_map(|(records, values)| records.into_iter().zip(values)).collect();
    all.sort_by_key(|(record, _)| *record);
    all.into_iter().map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_in_exactly_one_shard_and_in_the_same_block_whatever_the_number_of_shards() {
        let lengths: Vec<usize> = (0..103).map(|i| (i * 37) % 11).collect();
        let order = order_by(&lengths, Ord::cmp);
        let whole = Shard::WHOLE.of(&order, 8).unwrap();
        assert_eq!(whole.records(), (0..103).collect::<Vec<_>>());
        for count in [2, 3, 13] {
            let shards: Vec<Portion> =
                (1..=count).map(|index| Shard { index, count }.of(&order, 8).unwrap()).collect();
            let mut records: Vec<usize> = shards.iter().flat_map(Portion::records).collect();
            records.sort_unstable();
            assert_eq!(records, whole.records());
            for block in shards.iter().flat_map(|it| &it.blocks) {
                assert!(whole.blocks.contains(block));
            }
        }
    }

    #[test]
    fn more_shards_than_blocks_are_refused() {
        let message = Shard { index: 1, count: 3 }.of(&[0, 1, 2, 3], 2).unwrap_err().to_string();
        assert!(message.contains("at most 2 shards"), "{message}");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2"] {
            let message = wrong.parse::<Shard>().unwrap_err();
            assert!(message.contains("from 1 to n") && message.contains(wrong), "{message}");
        }
    }
}
