//! Statistics that scripts define: counters, iteration over groups, and series over a window of time.

mod functions;
mod series;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Function, Module, Named, Param, Variable};
use switchroom_kernel::open::Opening;
use switchroom_kernel::stats::StatId;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use series::Profile;

/// Routes of the functions, as the language lists them.
const ROUTES: &str = "RFOBLSTV";

/// The module.
pub static MODULE: Module = Module {
    name: "statistics",
    summary: "Statistics that scripts define",
    params: &[
        Param::multi("variable", "A counter, \"name\" or \"name/no_reset\""),
        Param::multi("stat_groups", "Groups of statistics that scripts may make, separated by commas"),
        Param::multi("stat_series_profile", "\"name: algorithm=average window=600 slots=10 ...\""),
    ],
    functions: &[
        Function::new("update_stat", &["str,int"], ROUTES, functions::update_stat, "Add to a counter"),
        Function::new("reset_stat", &["str"], ROUTES, functions::reset_stat, "Set a counter back to 0"),
        Function::new(
            "stat_iter_init",
            &["str,str"],
            ROUTES,
            functions::iter_init,
            "Begin to go through a group of statistics",
        ),
        Function::new(
            "stat_iter_next",
            &["var,var,str"],
            ROUTES,
            functions::iter_next,
            "Name and value of the next statistic of the group",
        ),
        Function::new(
            "update_stat_series",
            &["str,str,int"],
            "*",
            functions::update_series,
            "Feed a value into a series",
        ),
    ],
    variables: &[{
        let mut stat = Variable::rw("stat", stat, set_stat, "Value of a statistic");
        stat.named = Named::Yes;
        stat
    }],
    open,
    ..Module::EMPTY
};

/// Group of statistics that are made without naming one.
const DYNAMIC: &str = "dynamic";
const HELP: &str = "Defined by the script";

struct Statistics {
    groups: Vec<String>,
    profiles: HashMap<String, Profile>,
}

/// What a worker keeps: numbers of counters by name, and how far its iterators are.
#[derive(Default)]
struct PerShard {
    ids: RefCell<HashMap<Bytes, StatId>>,
    iterators: RefCell<HashMap<Bytes, functions::Iter>>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let mut groups = Vec::new();
    for list in o.all("stat_groups") {
        for group in list.split(',').map(str::trim) {
            if group.is_empty() || group.contains(':') {
                return Err(format!("stat_groups \"{list}\": \"{group}\" is no name of a group"));
            }
            groups.push(group.to_owned());
        }
    }
    let mut profiles = HashMap::new();
    for text in o.all("stat_series_profile") {
        let profile = Profile::parse(&text)?;
        profiles.insert(profile.name.clone(), profile);
    }
    for name in o.kernel.registry.static_args("update_stat_series", 0) {
        let name = String::from_utf8_lossy(&name);
        if !profiles.contains_key(name.as_ref()) {
            return Err(format!("update_stat_series(): there is no stat_series_profile \"{name}\""));
        }
    }
    let statistics = Statistics { groups, profiles };
    for variable in o.all("variable") {
        let (name, gauge) = match variable.split_once('/') {
            Some((name, "no_reset")) => (name, true),
            Some((_, flag)) => return Err(format!("variable \"{variable}\": \"{flag}\" is not no_reset")),
            None => (variable.as_str(), false),
        };
        statistics.make(o.kernel, name.trim(), gauge)?;
    }
    o.provide(statistics);
    o.per_shard(|_| PerShard::default());
    Ok(())
}

impl Statistics {
    /// Make a counter, or find it.
    fn make(&self, kernel: &Kernel, name: &str, gauge: bool) -> Result<StatId, String> {
        let (group, plain) = name.split_once(':').unwrap_or((DYNAMIC, name));
        if plain.is_empty() {
            return Err(format!("\"{name}\" is no name of a statistic"));
        }
        if group != DYNAMIC && !self.groups.iter().any(|g| g == group) {
            return Err(format!("group \"{group}\" of statistic \"{name}\" is not in stat_groups"));
        }
        let made = kernel.stats.counter(group, plain, HELP, gauge);
        made.ok_or_else(|| {
            format!("statistic \"{name}\" cannot be made: it is computed, or there are too many")
        })
    }
}

/// The counter of a name; made when there is none.
fn counter(ctx: &Ctx, name: &Bytes) -> Result<StatId, String> {
    let part = ctx.shard.part::<PerShard>();
    if let Some(id) = part.ids.borrow().get(name) {
        return Ok(*id);
    }
    let kernel = &ctx.shard.kernel;
    let text = std::str::from_utf8(name).map_err(|_| "the name of a statistic is not UTF-8".to_owned())?;
    let id = match kernel.stats.find(text) {
        Some(id) => id,
        None if kernel.stats.get(text).is_some() => return Err(format!("statistic \"{text}\" is computed")),
        None => kernel.state::<Statistics>().make(kernel, text, false)?,
    };
    // There are no more entries than counters and spellings of them: name and group:name.
    part.ids.borrow_mut().insert(name.clone(), id);
    Ok(id)
}

fn reset(ctx: &Ctx, name: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(name);
    match ctx.shard.kernel.stats.reset(&text) {
        true => Ok(()),
        false => Err(format!("statistic \"{text}\" does not exist or is never reset")),
    }
}

fn stat(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(name) = ctx.shard.kernel.registry.inner_name(var) else { return Value::Null };
    let Ok(name) = std::str::from_utf8(&name) else { return Value::Null };
    ctx.shard.kernel.stats.get(name).map_or(Value::Null, Value::Int)
}

fn set_stat(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let kernel = ctx.shard.kernel.clone();
    let name = kernel.registry.inner_name(var).ok_or("the statistic has no name")?;
    let wanted = match &value {
        Value::Null => 0,
        other => other.to_int().ok_or("a statistic is an integer")?,
    };
    let id = counter(ctx, &name)?;
    if wanted == 0 {
        return reset(ctx, &name);
    }
    ctx.shard.count(id, wanted.wrapping_sub(kernel.stats.read(id)));
    Ok(())
}
