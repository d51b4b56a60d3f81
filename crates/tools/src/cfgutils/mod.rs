//! Small helpers of scripts: shared variables, random choice, waiting, locks, time.

mod commands;
mod functions;
mod locks;
mod shared;
mod variables;

use std::sync::atomic::AtomicI64;

use switchroom_kernel::module::{Function, Module, Param};
use switchroom_kernel::open::Opening;

use locks::Locks;
use shared::Shared;

/// The module.
pub static MODULE: Module = Module {
    name: "cfgutils",
    summary: "Shared variables, random choice, waiting, locks, time",
    params: &[
        Param::int("initial_probability", "10", "Percentage of rand_event() that is true"),
        Param::unset("hash_file", "File whose hash is taken at start"),
        Param::int("shv_hash_size", "64", "Accepted for older scripts; the table grows by itself"),
        Param::multi("shvset", "First value of a shared variable: \"name=i:1\" or \"name=s:text\""),
        Param::multi("varset", "First value of a script variable, in the same notation"),
        Param::int("lock_pool_size", "32", "Number of dynamic locks"),
    ],
    functions: &[
        Function::new("rand_set_prob", &["int"], ROUTES, functions::set_probability, "Set the percentage"),
        Function::new("rand_reset_prob", &[""], ROUTES, functions::reset_probability, "Set it back"),
        Function::new("rand_get_prob", &[""], ROUTES, functions::get_probability, "The percentage as result"),
        Function::new("rand_event", &["[int]"], ROUTES, functions::rand_event, "True by chance"),
        Function::new("sleep", &["int"], ROUTES, functions::sleep, "Wait for seconds").asynchronous(),
        Function::new("usleep", &["int"], ROUTES, functions::usleep, "Wait for microseconds").asynchronous(),
        Function::new("abort", &[""], ROUTES, functions::abort, "End the process at once, for debugging"),
        Function::new("pkg_status", &[""], ROUTES, functions::memory_status, "Log the use of memory"),
        Function::new("shm_status", &[""], ROUTES, functions::memory_status, "Log the use of memory"),
        Function::new(
            "set_count",
            &["var,var"],
            ROUTES,
            functions::set_count,
            "Count the values of a variable",
        ),
        Function::new(
            "set_select_weight",
            &["var"],
            ROUTES,
            functions::select_weight,
            "Choose a value by chance, by its weight; its place, from 1, as result",
        ),
        Function::new(
            "get_accurate_time",
            &["var,var,[var]"],
            ROUTES,
            functions::accurate_time,
            "Seconds and microseconds since the epoch",
        ),
        Function::new(
            "ts_usec_delta",
            &["int,int,int,int,[var],[var]"],
            ROUTES,
            functions::delta,
            "Microseconds between two moments",
        ),
        Function::new(
            "check_time_rec",
            &["str,[int]"],
            "*",
            functions::check_time_rec,
            "Test a recurring time",
        ),
        Function::new(
            "shuffle_avps",
            &["var"],
            "*",
            functions::shuffle,
            "Put the values of an AVP in random order",
        ),
        Function::new("get_static_lock", &["str"], ROUTES, functions::get_static_lock, "Take a lock by name")
            .asynchronous(),
        Function::new(
            "release_static_lock",
            &["str"],
            ROUTES,
            functions::release_static_lock,
            "Give it back",
        ),
        Function::new(
            "get_dynamic_lock",
            &["str"],
            ROUTES,
            functions::get_dynamic_lock,
            "Take a lock of the pool",
        )
        .asynchronous(),
        Function::new(
            "release_dynamic_lock",
            &["str"],
            ROUTES,
            functions::release_dynamic_lock,
            "Give it back",
        ),
        Function::new(
            "strings_share_lock",
            &["str,str"],
            ROUTES,
            functions::strings_share_lock,
            "Test whether two texts have the same lock of the pool",
        ),
    ],
    variables: variables::VARIABLES,
    commands: commands::COMMANDS,
    open,
    live: Some(|kernel| {
        for worker in 0..kernel.workers {
            let first = kernel.state::<CfgUtils>().script_variables.clone();
            let set = move |shard: &std::rc::Rc<switchroom_kernel::Shard>| {
                shard.vars.borrow_mut().extend(first);
            };
            if !kernel.on_worker(worker, set) {
                tracing::error!("varset: worker {worker} does not take its first values");
            }
        }
    }),
    ..Module::EMPTY
};

const ROUTES: &str = "RFOBELSTV";

/// State of the module.
struct CfgUtils {
    shared: Shared,
    locks: Locks,
    probability: AtomicI64,
    initial_probability: i64,
    /// File and hash at start.
    hashed: Option<(String, String)>,
    /// `varset`, by interned name.
    script_variables: Vec<(u32, switchroom_script::Value)>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let initial_probability = o.int("initial_probability");
    if !(0..=100).contains(&initial_probability) {
        return Err(format!("initial_probability is {initial_probability}; it must be from 0 to 100"));
    }
    let pool = usize::try_from(o.int("lock_pool_size")).ok().filter(|n| (1..=1 << 20).contains(n));
    let pool = pool.ok_or("lock_pool_size must be from 1 to 1048576")?;
    let shared = Shared::default();
    for text in o.all("shvset") {
        let (name, value) = shared::read(&text).map_err(|e| format!("parameter `shvset`: {e}"))?;
        shared.set(o.kernel.registry.names.intern(name)?, value);
    }
    let mut script_variables = Vec::new();
    for text in o.all("varset") {
        let (name, value) = shared::read(&text).map_err(|e| format!("parameter `varset`: {e}"))?;
        script_variables.push((o.kernel.registry.names.intern(name)?, value));
    }
    let hashed = match o.str("hash_file") {
        Some(file) => {
            let hash = commands::hash(&file).map_err(|e| format!("hash_file \"{file}\": {e}"))?;
            Some((file, hash))
        }
        None => None,
    };
    o.provide(CfgUtils {
        shared,
        locks: Locks::new(pool),
        probability: AtomicI64::new(initial_probability),
        initial_probability,
        hashed,
        script_variables,
    });
    Ok(())
}
