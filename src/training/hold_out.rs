//! A share of the records held out for validation: a function of the records and the seed alone.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;

use burn::data::dataset::Dataset;

use crate::data::TokenGroup;
use crate::{Error, Result};

/// Divides records by their prompts: the numbers of those that stay, and of those that are held out, which are
/// all records of `share` of the prompts. The prompts are drawn by `seed`; at least one is taken, and at least
/// one stays. No prompt is in both parts. Records without a prompt count as prompts of their own.
///
/// Fewer than two prompts are not divided: all records stay.
///
/// # Errors
/// If a record cannot be read.
pub fn hold_out(
    groups: &dyn Dataset<TokenGroup, Error>,
    share: f64,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut numbers: HashMap<blake3::Hash, usize> = HashMap::new();
    let mut num_prompts = 0;
    let mut next = || {
        num_prompts += 1;
        num_prompts - 1
    };
    let prompt = |record| {
        let prompt = groups.get(record)?.prompt;
        let hash = blake3::hash(bytemuck::cast_slice(&prompt));
        Ok(if prompt.is_empty() { next() } else { *numbers.entry(hash).or_insert_with(&mut next) })
    };
    let prompts: Vec<usize> = (0..groups.len()).map(prompt).collect::<Result<_>>()?;
    let mut order: Vec<usize> = (0..num_prompts).collect();
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(u64::MAX); // epochs have the streams from 0
    order.shuffle(&mut random);
    let count = (share * num_prompts as f64).round() as usize;
    let mut is_taken = vec![false; num_prompts];
    let count = count.clamp(1, num_prompts.max(2) - 1);
    order.iter().take(if num_prompts < 2 { 0 } else { count }).for_each(|&it| is_taken[it] = true);
    Ok((0..groups.len()).partition(|&record| !is_taken[prompts[record]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::DiskListWriter;

    /// Divides records with these prompts; 0 is none.
    fn divided(prompts: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
        let mut records = DiskListWriter::default();
        for &prompt in prompts {
            let prompt = if prompt == 0 { Vec::new() } else { vec![prompt] };
            records.push(&TokenGroup { prompt, ..TokenGroup::default() }).unwrap();
        }
        hold_out(&records.finish().unwrap(), share, seed).unwrap()
    }

    #[test]
    fn a_share_of_the_prompts_is_held_out_with_all_their_records_in_order() {
        let prompts: Vec<u32> = (0..120).map(|it| 1 + it % 40).collect();
        let (kept, held_out) = divided(&prompts, 0.1, 7);
        assert_eq!((kept.len(), held_out.len()), (108, 12));
        let is_apart = |one: &usize| held_out.iter().all(|&other| prompts[*one] != prompts[other]);
        assert!(kept.iter().all(is_apart));
        assert!(held_out.is_sorted() && kept.is_sorted());
        assert_eq!(divided(&prompts, 0.1, 7), (kept, held_out.clone()));
        assert_ne!(divided(&prompts, 0.1, 8).1, held_out, "the seed decides");
    }

    #[test]
    fn one_prompt_at_least_is_on_either_side_and_a_missing_prompt_is_none() {
        let (kept, held_out) = divided(&[1, 1, 2], 0.001, 0);
        assert!(!kept.is_empty() && !held_out.is_empty());
        let (kept, held_out) = divided(&[1, 1, 2], 0.999, 0);
        assert!(!kept.is_empty() && !held_out.is_empty());
        let (kept, held_out) = divided(&[0; 10], 0.3, 0);
        assert_eq!((kept.len(), held_out.len()), (7, 3));
        let (kept, held_out) = divided(&[5, 5], 0.5, 0);
        assert_eq!((kept.len(), held_out.len()), (2, 0), "one prompt cannot be divided");
    }
}
