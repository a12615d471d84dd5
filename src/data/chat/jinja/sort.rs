//! Sorting by what Python's `<` says.

use std::cmp::Ordering;

use super::fault::Outcome;
use super::value::Value;

/// Sorts items by a key; those with equal keys keep their order, reversed or not.
pub fn sort_by_key<T>(
    items: &mut Vec<T>,
    key: impl FnMut(&T) -> Outcome<Value>,
    reverse: bool,
) -> Outcome<()> {
    let keys = items.iter().map(key).collect::<Outcome<Vec<_>>>()?;
    let order = order_of(&keys, 0..keys.len(), reverse)?;
    let mut unsorted: Vec<_> = items.drain(..).map(Some).collect();
    items.extend(order.into_iter().filter_map(|index| unsorted[index].take()));
    Ok(())
}

/// The indices of a range of keys in their order, by merging: keys need not be comparable, and an
/// order that makes no sense (of NaN) does no harm.
fn order_of(keys: &[Value], range: std::ops::Range<usize>, reverse: bool) -> Outcome<Vec<usize>> {
    if range.len() < 2 {
        return Ok(range.collect());
    }
    let middle = range.start + range.len() / 2;
    let left = order_of(keys, range.start..middle, reverse)?;
    let right = order_of(keys, middle..range.end, reverse)?;
    let mut merged = Vec::with_capacity(range.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(&a), Some(&b)) = (left.peek(), right.peek()) {
        let (first, second) = if reverse { (a, b) } else { (b, a) };
        let later_first = keys[first].order(&keys[second], "<")? == Some(Ordering::Less);
        merged.extend(if later_first { right.next() } else { left.next() });
    }
    merged.extend(left.chain(right));
    Ok(merged)
}
