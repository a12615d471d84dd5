//! A share of the records held out for validation: a function of the records and the seed alone.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::data::TokenGroup;

/// Takes all records of `share` of the prompts out of `groups`, in their order. The prompts are drawn by
/// `seed`; at least one is taken, and at least one stays. No prompt is in both parts. Records without a
/// prompt count as prompts of their own.
///
/// Fewer than two prompts are not divided: all records stay.
pub fn hold_out(
    groups: Vec<TokenGroup>,
    share: f64,
    seed: u64,
) -> (Vec<TokenGroup>, Vec<TokenGroup>) {
    let mut numbers: HashMap<&[u32], usize> = HashMap::new();
    let mut num_prompts = 0;
    let mut next = || {
        num_prompts += 1;
        num_prompts - 1
    };
    let prompts: Vec<usize> = groups
        .iter()
        .map(|group| match group.prompt.is_empty() {
            true => next(),
            false => *numbers.entry(&group.prompt).or_insert_with(&mut next),
        })
        .collect();
    let mut order: Vec<usize> = (0..num_prompts).collect();
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(u64::MAX); // epochs have the streams from 0
    order.shuffle(&mut random);
    let count = (share * num_prompts as f64).round() as usize;
    let mut is_taken = vec![false; num_prompts];
    let count = count.clamp(1, num_prompts.max(2) - 1);
    order.iter().take(if num_prompts < 2 { 0 } else { count }).for_each(|&it| is_taken[it] = true);
    let (taken, kept): (Vec<_>, Vec<_>) =
        groups.into_iter().zip(prompts).partition(|(_, prompt)| is_taken[*prompt]);
    let groups =
        |part: Vec<(TokenGroup, usize)>| part.into_iter().map(|(group, _)| group).collect();
    (groups(kept), groups(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records by their lines, with these prompts.
    fn records(prompts: &[u32]) -> Vec<TokenGroup> {
        let record = |(line, &prompt): (usize, &u32)| TokenGroup {
            line,
            prompt: if prompt == 0 { Vec::new() } else { vec![prompt] },
            ..TokenGroup::default()
        };
        prompts.iter().enumerate().map(record).collect()
    }

    fn lines(groups: &[TokenGroup]) -> Vec<usize> {
        groups.iter().map(|group| group.line).collect()
    }

    #[test]
    fn a_share_of_the_prompts_is_held_out_with_all_their_records_in_order() {
        let prompts: Vec<u32> = (0..120).map(|it| 1 + it % 40).collect();
        let (kept, held_out) = hold_out(records(&prompts), 0.1, 7);
        assert_eq!((kept.len(), held_out.len()), (108, 12));
        assert!(kept.iter().all(|one| held_out.iter().all(|other| one.prompt != other.prompt)));
        assert!(lines(&held_out).is_sorted() && lines(&kept).is_sorted());
        let again = hold_out(records(&prompts), 0.1, 7);
        assert_eq!(again, (kept, held_out.clone()));
        assert_ne!(hold_out(records(&prompts), 0.1, 8).1, held_out, "the seed decides");
    }

    #[test]
    fn one_prompt_at_least_is_on_either_side_and_a_missing_prompt_is_none() {
        let (kept, held_out) = hold_out(records(&[1, 1, 2]), 0.001, 0);
        assert!(!kept.is_empty() && !held_out.is_empty());
        let (kept, held_out) = hold_out(records(&[1, 1, 2]), 0.999, 0);
        assert!(!kept.is_empty() && !held_out.is_empty());
        let (kept, held_out) = hold_out(records(&[0; 10]), 0.3, 0);
        assert_eq!((kept.len(), held_out.len()), (7, 3));
        let (kept, held_out) = hold_out(records(&[5, 5]), 0.5, 0);
        assert_eq!((kept.len(), held_out.len()), (2, 0), "one prompt cannot be divided");
    }
}
