//! Free memory, and the refusal of what cannot fit into it.
//!
//! Sizes are checked before memory is allocated. So a size with too many digits is an error that names the
//! size, and does not exhaust the machine.

use crate::{Error, Result};

/// A number of bytes; sizes that nothing can hold count as the largest.
pub type Bytes = u128;

/// The product of sizes, which may be larger than any memory.
pub fn product(sizes: impl IntoIterator<Item = usize>) -> Bytes {
    sizes.into_iter().fold(1, |product: Bytes, size| product.saturating_mul(size as Bytes))
}

/// Refuses what takes more than the memory that is free. `what` begins the message, with the size that
/// asks for it, and `remedy` says what to lower.
///
/// # Errors
/// If it does.
pub fn check(needed: Bytes, what: &str, remedy: &str) -> Result<()> {
    match available().unwrap_or(isize::MAX as u64) {
        free if needed <= Bytes::from(free) => Ok(()),
        free => Err(Error::usage(format!(
            "{what}: expected what fits in the {} of free memory, found {}; {remedy}",
            in_words(free.into()),
            in_words(needed)
        ))),
    }
}

/// The bytes that this process can still take: what is free on the machine, or less where its group
/// or its own limit has less. None where the system does not say.
pub fn available() -> Option<u64> {
    [of_machine(), of_group(), of_process()].into_iter().flatten().min()
}

/// Of the machine, swap included.
fn of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = kilobytes(&text, "MemAvailable")?;
    Some(free.saturating_add(kilobytes(&text, "SwapFree").unwrap_or(0)))
}

/// Of the control group: version 2, or 1.
fn of_group() -> Option<u64> {
    const FILES: [[&str; 2]; 2] = [
        ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"],
        [
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ],
    ];
    let number = |file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let left = |[limit, used]: [&'static str; 2]| {
        // Pages of files that were read count as used, and are given back.
        let reclaimable = std::fs::read_to_string(limit.replace(name(limit), "memory.stat"))
            .ok()
            .map_or(0, |stat| stat.lines().filter_map(given_back).sum());
        let used = number(used)?.saturating_sub(reclaimable);
        Some(number(limit)?.saturating_sub(used))
    };
    FILES.into_iter().find_map(left)
}

/// Bytes of a line of memory.stat that count as used and are given back.
fn given_back(line: &str) -> Option<u64> {
    const GIVEN_BACK: [&str; 3] = ["inactive_file", "active_file", "slab_reclaimable"];
    let (name, bytes) = line.split_once(' ')?;
    GIVEN_BACK.contains(&name).then(|| bytes.trim().parse().ok()).flatten()
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Of the process, where its address space is limited.
fn of_process() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|it| it.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(limit.saturating_sub(kilobytes(&status, "VmSize")?))
}

/// The value of a line `name:  number kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A number of bytes for people.
pub fn in_words(bytes: Bytes) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    match value < 1e4 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => "more than any machine has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_all_numbers_are_refused_and_small_ones_are_not() {
        let all = [usize::MAX; 5];
        assert_eq!(product(all), Bytes::MAX);
        let message = check(product(all), "`adapter.rank` 7", "lower it").unwrap_err().to_string();
        assert!(message.starts_with("`adapter.rank` 7: expected what fits in the "), "{message}");
        assert!(
            message.ends_with(" of free memory, found more than any machine has; lower it"),
            "{message}"
        );
        check(product([1024, 4]), "a little", "lower it").unwrap();
    }

    #[test]
    fn what_is_free_is_less_than_what_there_is() {
        let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return };
        let total = kilobytes(&text, "MemTotal").unwrap();
        let free = available().unwrap();
        assert!(0 < free && free < total + kilobytes(&text, "SwapFree").unwrap(), "{free} {total}");
    }

    #[test]
    fn numbers_of_bytes_are_readable() {
        let words = [999, 1_000, 999_949, 64_000_000_000, 896_000_000_000_000].map(in_words);
        assert_eq!(words, ["999 bytes", "1.0 kB", "999.9 kB", "64.0 GB", "896.0 TB"]);
        assert_eq!(in_words(Bytes::MAX), "more than any machine has");
    }
}
