//! The group `shmem` of statistics: there is no shared memory pool, so the figures are those of the process and its machine.
//! Read from the system when somebody asks.

use switchroom_kernel::stats::Stats;

/// Register them.
pub fn register(stats: &Stats) {
    let total = || from_file("/proc/meminfo", "MemTotal:");
    let used = || from_file("/proc/self/status", "VmRSS:");
    let peak = || from_file("/proc/self/status", "VmHWM:");
    let free = || from_file("/proc/meminfo", "MemAvailable:");
    stats.computed("shmem", "total_size", "Memory of the machine in bytes", total);
    stats.computed("shmem", "used_size", "Memory that the server uses, in bytes", used);
    stats.computed("shmem", "real_used_size", "Memory that the server uses, in bytes", used);
    stats.computed("shmem", "max_used_size", "Most memory that the server used so far, in bytes", peak);
    stats.computed("shmem", "free_size", "Memory that the machine has left, in bytes", free);
}

/// A line such as `VmRSS:     1234 kB` in bytes; 0 where the system does not say.
fn from_file(file: &str, name: &str) -> i64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    let kilobytes = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<i64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_memory_and_the_machine_has_more() {
        let (used, total) =
            (from_file("/proc/self/status", "VmRSS:"), from_file("/proc/meminfo", "MemTotal:"));
        assert!(used > 0 && used < total, "{used} of {total}");
        assert_eq!(from_file("/proc/meminfo", "Nothing:"), 0);
    }
}
