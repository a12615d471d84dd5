//! The records of each step: a function of the seed and the step alone; and the parts of a step.

use std::sync::{Arc, Mutex, PoisonError};

use rand::SeedableRng;
use rand::seq::SliceRandom;

/// The order of `num_records` records over the steps of a training.
#[derive(Clone, Debug)]
pub struct BatchOrder {
    num_records: usize,
    batch_size: usize,
    num_steps: usize,
    shuffle: Option<u64>,
    /// The epoch that was asked for last, and its order: shuffling a million records takes as long as a step.
    current: Arc<Mutex<Option<EpochOrder>>>,
}

/// An epoch and its records in their order.
type EpochOrder = (usize, Arc<Vec<usize>>);

impl BatchOrder {
    /// `epochs` passes in batches of `batch_size`, stopped after `max_steps` steps (0: not stopped).
    /// `shuffle` seeds a new order for every epoch; without it the records come as they are.
    pub fn new(
        num_records: usize,
        batch_size: usize,
        epochs: usize,
        max_steps: usize,
        shuffle: Option<u64>,
    ) -> Self {
        let whole = epochs.saturating_mul(num_records.div_ceil(batch_size));
        let num_steps = if max_steps == 0 { whole } else { whole.min(max_steps) };
        Self { num_records, batch_size, num_steps, shuffle, current: Arc::default() }
    }

    /// Number of optimizer steps.
    pub fn num_steps(&self) -> usize {
        self.num_steps
    }

    /// The epoch of `step` (from 0), and its records in ascending order.
    pub fn records(&self, step: usize) -> (usize, Vec<usize>) {
        let per_epoch = self.num_records.div_ceil(self.batch_size);
        let (epoch, batch) = (step / per_epoch, step % per_epoch);
        let order = self.order(epoch);
        let range = batch * self.batch_size
            ..(batch + 1).saturating_mul(self.batch_size).min(self.num_records);
        let mut records = order[range].to_vec();
        records.sort_unstable();
        (epoch, records)
    }

    /// The records in the order of an epoch.
    fn order(&self, epoch: usize) -> Arc<Vec<usize>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = current.as_ref().filter(|(known, _)| *known == epoch) {
            return order.clone();
        }
        let mut order: Vec<usize> = (0..self.num_records).collect();
        if let Some(seed) = self.shuffle {
            let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
            random.set_stream(epoch as u64);
            order.shuffle(&mut random);
        }
        let order = Arc::new(order);
        *current = Some((epoch, order.clone()));
        order
    }
}

/// The micro-batches of a step of `num_records` records, as places among them, of at most `largest` each. They
/// are sorted by `size`, so that a micro-batch holds records of one kind and similar length; `size` is (kind,
/// length), and a micro-batch never mixes kinds.
pub fn micro_batches(
    num_records: usize,
    largest: usize,
    size: impl Fn(usize) -> (usize, usize),
) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..num_records).collect();
    places.sort_by_key(|&place| (size(place), place));
    places
        .chunk_by(|&a, &b| size(a).0 == size(b).0)
        .flat_map(|kind| kind.chunks(largest))
        .map(<[usize]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(order: &BatchOrder, step: usize) -> Vec<usize> {
        order.records(step).1
    }

    /// The records of each micro-batch of a step.
    fn parts_of_step(
        order: &BatchOrder,
        step: usize,
        largest: usize,
        size: impl Fn(usize) -> (usize, usize),
    ) -> Vec<Vec<usize>> {
        let records = records(order, step);
        let parts = micro_batches(records.len(), largest, |place| size(records[place]));
        parts.iter().map(|part| part.iter().map(|&place| records[place]).collect()).collect()
    }

    #[test]
    fn an_epoch_visits_every_record_once_and_keeps_the_short_last_batch() {
        let order = BatchOrder::new(10, 4, 2, 0, Some(7));
        assert_eq!(order.num_steps(), 6);
        for (epoch, steps) in [0..3, 3..6].into_iter().enumerate() {
            assert!(steps.clone().all(|step| order.records(step).0 == epoch));
            let mut all: Vec<usize> = steps.flat_map(|step| records(&order, step)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
        let sizes = [0, 1, 2, 3, 4, 5].map(|step| records(&order, step).len());
        assert_eq!(sizes, [4, 4, 2, 4, 4, 2]);
        assert_eq!(BatchOrder::new(10, 4, 2, 5, Some(7)).num_steps(), 5);
    }

    /// The records of each epoch, a step each.
    fn orders(shuffle: Option<u64>) -> [Vec<usize>; 2] {
        let order = BatchOrder::new(12, 1, 2, 0, shuffle);
        [0..12, 12..24].map(|steps| steps.flat_map(|step| records(&order, step)).collect())
    }

    /// Trainings that were interrupted go on in this order: another one would leave records out of their
    /// epoch and take others twice.
    #[test]
    fn the_order_of_a_seed_is_the_one_it_has_always_been() {
        assert_eq!(
            orders(Some(7)),
            [[1, 3, 4, 6, 11, 7, 2, 5, 8, 9, 10, 0], [2, 9, 6, 7, 3, 1, 11, 10, 8, 0, 5, 4]]
        );
        assert_eq!(orders(Some(8))[0], [3, 1, 5, 9, 6, 0, 10, 11, 2, 4, 7, 8]);
        let as_they_come: Vec<usize> = (0..12).collect();
        assert_eq!(orders(None), [as_they_come.clone(), as_they_come]);
    }

    #[test]
    fn records_are_taken_to_be_of_their_own_size() {
        let order = BatchOrder::new(6, 3, 1, 0, None);
        let step = parts_of_step(&order, 1, 2, |record| (0, [9, 9, 9, 5, 1, 3][record]));
        assert_eq!(step, [vec![4, 5], vec![3]]);
    }

    #[test]
    fn a_micro_batch_never_mixes_kinds() {
        let order = BatchOrder::new(8, 8, 1, 0, None);
        let step = parts_of_step(&order, 0, 3, |record| (record % 2, 10 - record));
        assert_eq!(step, [vec![6, 4, 2], vec![0], vec![7, 5, 3], vec![1]]);
    }
}
