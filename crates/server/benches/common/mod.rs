//! What comparisons with other programs share.

/// The middle one.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds of processor time of a process and its children so far.
pub fn cpu(pid: u32) -> f64 {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name may hold blanks; what follows its parenthesis does not.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<u64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
        if let (Some(parent), Some(user), Some(system)) = (fields.get(1), fields.get(11), fields.get(12)) {
            all.push((pid, *parent as u32, user + system));
        }
    }
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(one) = family.get(at).copied() {
        family.extend(all.iter().filter(|p| p.1 == one).map(|p| p.0));
        at += 1;
    }
    let ticks: u64 = all.iter().filter(|p| family.contains(&p.0)).map(|p| p.2).sum();
    // The kernel counts in hundredths of a second.
    ticks as f64 / 100.0
}
