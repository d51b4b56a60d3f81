//! `cargo xtask coverage`: what the program exports against the inventory of OpenSIPS 4.1 (`xtask/data/inventory.tsv`), per
//! module, plainly and weighted by how many collected configurations use a thing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

/// One line of either table.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    module: String,
    kind: String,
    name: String,
    args: String,
    routes: String,
    uses: u64,
    old: Vec<String>,
}

/// Print the report.
pub fn report(root: &Path) -> Result<(), String> {
    let path = root.join("xtask/data/inventory.tsv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let wanted = read(&text, true);
    let out = Command::new("cargo")
        .args(["run", "--quiet", "-p", "switchroom-server", "--", "doc", "--table"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    if !out.status.success() {
        return Err(format!("the table of exports: {}", String::from_utf8_lossy(&out.stderr)));
    }
    let offered = read(&String::from_utf8_lossy(&out.stdout), false);
    print!("{}", compare(&wanted, &offered));
    Ok(())
}

fn read(text: &str, inventory: bool) -> Vec<Row> {
    let lines = text.lines().filter(|l| !l.starts_with('#')).skip(1);
    lines
        .map(|line| {
            let field: Vec<&str> = line.split('\t').collect();
            let at = |i: usize| field.get(i).copied().unwrap_or_default().to_owned();
            Row {
                module: at(0),
                kind: at(1),
                name: at(2),
                args: at(3),
                routes: at(4),
                uses: if inventory { at(5).parse().unwrap_or(0) } else { 0 },
                old: if inventory { Vec::new() } else { at(5).split(',').map(str::to_owned).collect() },
            }
        })
        .collect()
}

#[derive(Default)]
struct Count {
    have: u64,
    of: u64,
    used_have: u64,
    used_of: u64,
    missing: Vec<String>,
}

fn compare(wanted: &[Row], offered: &[Row]) -> String {
    // Functions, variables and commands have one name in the whole program; parameters belong to a module.
    let mut known: HashMap<(String, String, String), &Row> = HashMap::new();
    for row in offered {
        for name in std::iter::once(&row.name).chain(&row.old) {
            known.entry(key(&row.module, &row.kind, name)).or_insert(row);
        }
    }
    let mut modules: BTreeMap<&str, Count> = BTreeMap::new();
    let mut differs = Vec::new();
    for row in wanted {
        let count = modules.entry(&row.module).or_default();
        count.of += 1;
        count.used_of += row.uses;
        match known.get(&key(&row.module, &row.kind, &row.name)) {
            Some(own) => {
                count.have += 1;
                count.used_have += row.uses;
                if row.kind == "function" && shape(&own.args) != shape(&row.args) {
                    differs.push(format!("{}({}) takes ({}) there", own.name, own.args, row.args));
                }
                if row.kind == "function"
                    && own.routes != "*"
                    && !row.routes.chars().all(|c| own.routes.contains(c))
                {
                    differs.push(format!(
                        "{}() is for routes {} there, {} here",
                        own.name, row.routes, own.routes
                    ));
                }
            }
            None => count.missing.push(format!("{} {}", row.kind, row.name)),
        }
    }
    let mut text = String::new();
    let (mut absent, mut total) = (Vec::new(), Count::default());
    for (name, c) in &modules {
        total.have += c.have;
        total.of += c.of;
        total.used_have += c.used_have;
        total.used_of += c.used_of;
        if c.have == 0 {
            absent.push(*name);
            continue;
        }
        text.push_str(&format!("{name:<20} {:>4} of {:>4}  {:>5.1} %", c.have, c.of, percent(c.have, c.of)));
        if c.used_of > 0 {
            text.push_str(&format!("  by use {:>5.1} %", percent(c.used_have, c.used_of)));
        }
        text.push('\n');
        for line in c.missing.chunks(6) {
            text.push_str(&format!("    missing: {}\n", line.join(", ")));
        }
    }
    text.push_str(&format!("\nmodules not here yet: {}\n", absent.join(" ")));
    for line in &differs {
        text.push_str(&format!("differs: {line}\n"));
    }
    text.push_str(&format!(
        "\nall: {} of {} names, {:.1} %; weighted by use in real configurations: {:.1} %\n",
        total.have,
        total.of,
        percent(total.have, total.of),
        percent(total.used_have, total.used_of)
    ));
    text
}

fn key(module: &str, kind: &str, name: &str) -> (String, String, String) {
    let own = matches!(kind, "param" | "statistic");
    (if own { module.to_owned() } else { String::new() }, kind.to_owned(), name.to_owned())
}

/// Number of mandatory and of all arguments.
fn shape(args: &str) -> (usize, usize) {
    let list: Vec<&str> = args.split(',').filter(|a| !a.is_empty()).collect();
    (list.iter().filter(|a| !a.contains('[')).count(), list.len())
}

fn percent(have: u64, of: u64) -> f64 {
    if of == 0 { 100.0 } else { have as f64 * 100.0 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_differs_is_named_and_weighted() {
        let wanted = read(
            "m\tk\tn\ta\tr\tu\ntm\tfunction\tt_relay\t[str],[str]\tRF\t90\ntm\tfunction\tt_x\tstr\tR\t10\n\
             tm\tparam\ttimer\tint\t\t0\n",
            true,
        );
        let offered = read(
            "m\tk\tn\ta\tr\to\ntm\tfunction\tt_relay\tstr\tRF\t\ntm\tparam\ttime\tint\t\ttimer\n",
            false,
        );
        let text = compare(&wanted, &offered);
        assert!(text.contains("2 of    3"), "{text}");
        assert!(text.contains("missing: function t_x"), "{text}");
        assert!(text.contains("differs: t_relay(str) takes ([str],[str]) there"), "{text}");
        assert!(text.contains("weighted by use in real configurations: 90.0 %"), "{text}");
    }
}
