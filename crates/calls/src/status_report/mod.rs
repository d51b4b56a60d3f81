//! Status groups that scripts define: whether something is ready, and what it said last.

use crate::core::events;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::status::MAIN;

/// The module.
pub static MODULE: Module = Module {
    name: "status_report",
    summary: "Status groups of scripts",
    params: &[Param::multi("script_sr_group", "A group that the script sets")],
    functions: &[
        Function::new("sr_set_status", &["str,int,[str]"], "*", set_status, "Say whether a group is ready"),
        Function::new("sr_add_report", &["str,str"], "*", add_report, "Add to the reports of a group"),
    ],
    open,
    ..Module::EMPTY
};

struct Groups(Vec<String>);

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let groups = o.all("script_sr_group");
    for group in &groups {
        if group.is_empty() || group.contains(char::is_whitespace) {
            return Err(format!("script_sr_group \"{group}\" must be one word"));
        }
        o.kernel.status.set(group, MAIN, 1, "")?;
    }
    o.provide(Groups(groups));
    Ok(())
}

/// The group of the first argument, if it is one of the script's.
fn group(c: &Call<'_>) -> Option<String> {
    let group = c.text(0);
    let groups = &c.ctx.shard.kernel.state::<Groups>().0;
    if groups.contains(&group) {
        return Some(group);
    }
    tracing::error!("there is no group \"{group}\"; script_sr_group makes one ({})", groups.join(", "));
    None
}

/// 0 is neither ready nor not; it counts as ready.
fn set_status(c: &mut Call<'_>) -> Flow {
    let Some(group) = group(c) else { return FALSE };
    let status = c.int(1).filter(|s| *s != 0).unwrap_or(1);
    events::set_status(&c.ctx.shard.kernel, &group, MAIN, status, &c.text(2));
    TRUE
}

fn add_report(c: &mut Call<'_>) -> Flow {
    let Some(group) = group(c) else { return FALSE };
    let kernel = &c.ctx.shard.kernel;
    if kernel.status.report(&group, MAIN, kernel.unix(), &c.text(1)) { TRUE } else { FALSE }
}
