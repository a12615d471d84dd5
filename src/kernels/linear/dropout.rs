//! Dropout of what an adapter reads (Srivastava et al. 2014), as PEFT has it: each entry is dropped with the
//! rate p, and what is kept counts 1 / (1 − p).
//!
//! Which entries are kept is a function of a key and of the entry's place, so that a backward pass, a block that is
//! computed again and a training that goes on drop the same entries on any number of cores. The random numbers
//! are those of ChaCha with 8 rounds, 16 bits an entry; the key is a chain of BLAKE3 hashes.

use std::cell::Cell;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Dropout of a training, or of a part of one: a step, a micro-batch, a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
    key: [u8; 32],
}

thread_local! {
    /// The dropout of the pass that this thread computes.
    static CURRENT: Cell<Option<Dropout>> = const { Cell::new(None) };
}

impl Dropout {
    /// Dropout of a training, by its seed.
    ///
    /// - `rate`: the share of the entries that is dropped, from 0 to less than 1
    pub fn new(rate: f64, seed: u64) -> Self {
        Self { rate, key: blake3::derive_key("exalign dropout", &seed.to_le_bytes()) }
    }

    /// The dropout of the part of this number. No two parts drop the same entries.
    pub fn part(&self, number: u64) -> Self {
        let key = *blake3::keyed_hash(&self.key, &number.to_le_bytes()).as_bytes();
        Self { key, ..*self }
    }

    /// Computes `pass` with this dropout, or with none. Linear layers drop entries within it and nowhere else.
    pub fn during<R>(dropout: Option<Self>, pass: impl FnOnce() -> R) -> R {
        /// Puts back what was there before, also where the pass panics.
        struct Before(Option<Dropout>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _before = Before(CURRENT.replace(dropout));
        pass()
    }

    /// The dropout of the pass that is being computed; none where entries are not dropped.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Drops among entries that follow one another, of which the first has the place `first`.
    pub fn apply(&self, first: usize, entries: &mut [f32]) {
        /// Entries for which a random number of 32 bits is enough.
        const PER_WORD: usize = 2;
        let before = first % PER_WORD;
        let mut bits = vec![0u16; before + entries.len()];
        let mut random = ChaCha8Rng::from_seed(self.key);
        random.set_word_pos((first / PER_WORD) as u128);
        random.fill(&mut bits[..]);
        let dropped = (self.rate * 65536.0).round().min(65535.0) as u16;
        let scale = (1.0 / (1.0 - self.rate)) as f32;
        for (entry, &bits) in entries.iter_mut().zip(&bits[before..]) {
            *entry = if bits < dropped { 0.0 } else { *entry * scale };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `count` entries counts.
    fn factors(dropout: &Dropout, count: usize) -> Vec<f32> {
        let mut factors = vec![1.0; count];
        dropout.apply(0, &mut factors);
        factors
    }

    #[test]
    fn as_many_are_dropped_as_the_rate_says_and_the_mean_stays() {
        const COUNT: usize = 1 << 18;
        for rate in [0.0, 0.05, 0.1, 0.5, 0.9] {
            let factors = factors(&Dropout::new(rate, 7), COUNT);
            let dropped = factors.iter().filter(|&&factor| factor == 0.0).count() as f64;
            let deviation = (rate * (1.0 - rate) / COUNT as f64).sqrt();
            // Five standard deviations, and a rate in 16 bits.
            let allowed = 5.0 * deviation + 1e-5;
            assert!((dropped / COUNT as f64 - rate).abs() < allowed, "{rate}: {dropped}");
            let kept = (1.0 / (1.0 - rate)) as f32;
            assert!(factors.iter().all(|&factor| factor == 0.0 || factor == kept), "{rate}");
        }
    }

    #[test]
    fn parts_of_all_kinds_drop_independently_of_one_another() {
        const COUNT: usize = 1 << 16;
        let whole = Dropout::new(0.5, 7);
        let all = [
            whole,
            Dropout::new(0.5, 8),
            whole.part(0),
            whole.part(1),
            whole.part(0).part(0),
            whole.part(0).part(1),
            whole.part(1).part(0),
        ];
        let all = all.map(|dropout| factors(&dropout, COUNT));
        for (number, one) in all.iter().enumerate() {
            for other in &all[..number] {
                let same = one.iter().zip(other).filter(|(one, other)| one == other).count();
                // A half, within five standard deviations.
                let off = (same as f64 / COUNT as f64 - 0.5).abs();
                assert!(off < 5.0 * 0.5 / (COUNT as f64).sqrt(), "{number}: {same}");
            }
            // Nor does an entry say anything about the next.
            let same = one.windows(2).filter(|pair| pair[0] == pair[1]).count();
            let off = (same as f64 / COUNT as f64 - 0.5).abs();
            assert!(off < 5.0 * 0.5 / (COUNT as f64).sqrt(), "{number}: {same} neighbours");
        }
    }

    #[test]
    fn an_entry_is_dropped_by_its_place_however_the_work_is_divided() {
        let dropout = Dropout::new(0.3, 7);
        let whole = factors(&dropout, 1000);
        for sizes in [[1, 2], [7, 64], [333, 1]] {
            let mut first = 0;
            for size in sizes.into_iter().cycle() {
                let end = (first + size).min(whole.len());
                let mut part = vec![1.0; end - first];
                dropout.apply(first, &mut part);
                assert_eq!(part, whole[first..end], "{first} to {end}");
                first = end;
                if first == whole.len() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_pass_within_another_has_its_own_and_a_panic_leaves_none_behind() {
        let [outer, inner] = [1, 2].map(|seed| Some(Dropout::new(0.1, seed)));
        Dropout::during(outer, || {
            Dropout::during(inner, || assert_eq!(Dropout::current(), inner));
            Dropout::during(None, || assert_eq!(Dropout::current(), None));
            assert_eq!(Dropout::current(), outer);
            let panics = || Dropout::during(inner, || panic!("as a device may"));
            assert!(std::panic::catch_unwind(panics).is_err());
            assert_eq!(Dropout::current(), outer);
        });
        assert_eq!(Dropout::current(), None);
    }
}
