//! Opening a module: its parameters, its databases, its state.

use std::any::{Any, TypeId};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use switchroom_script::vm::VarAccess;

use crate::kernel::Kernel;
use crate::module::{Module, Param};
use crate::ports::store::{Query, SqlValue, Store};
use crate::settings::Setting;
use crate::stats::StatId;

/// What a module sees while it opens.
pub struct Opening<'a> {
    /// The house under construction; needed modules are open already.
    pub kernel: &'a mut Kernel,
    module: &'static Module,
    params: &'a [(String, Setting)],
}

impl<'a> Opening<'a> {
    /// For one module with the modparams that named it.
    pub fn new(kernel: &'a mut Kernel, module: &'static Module, params: &'a [(String, Setting)]) -> Self {
        Opening { kernel, module, params }
    }

    /// Integer parameter: last value given, else the default, else 0.
    pub fn int(&self, name: &str) -> i64 {
        match self.last(name) {
            Some(Setting::Int(i)) => *i,
            Some(Setting::Str(s)) => s.trim().parse().unwrap_or(0),
            None => self.default(name).and_then(|d| d.parse().ok()).unwrap_or(0),
        }
    }

    /// Boolean parameter.
    pub fn on(&self, name: &str) -> bool {
        self.int(name) != 0
    }

    /// String parameter: last value given, else the default.
    pub fn str(&self, name: &str) -> Option<String> {
        match self.last(name) {
            Some(Setting::Str(s)) => Some(s.clone()),
            Some(Setting::Int(i)) => Some(i.to_string()),
            None => self.default(name).map(str::to_owned),
        }
    }

    /// String parameter, empty when unset.
    pub fn text(&self, name: &str) -> String {
        self.str(name).unwrap_or_default()
    }

    /// All values of a parameter that may be given several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        let given = self.params.iter().filter(|(n, _)| n == name);
        given
            .map(|(_, v)| match v {
                Setting::Str(s) => s.clone(),
                Setting::Int(i) => i.to_string(),
            })
            .collect()
    }

    /// Whether the script set it.
    pub fn given(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// A parameter that names a variable (`"$avp(x)"`).
    pub fn variable(&self, name: &str) -> Result<Option<VarAccess>, String> {
        let Some(text) = self.str(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        let variable = switchroom_script::Variable::compile(&text, &self.kernel.registry)
            .map_err(|e| format!("parameter `{name}`: {e}"))?;
        match variable.access() {
            Some(access) => Ok(Some(access.clone())),
            None => Err(format!("parameter `{name}`: \"{text}\" must be a variable with a fixed name")),
        }
    }

    /// Id of one of the module's declared statistics.
    pub fn stat(&self, name: &'static str) -> Result<StatId, String> {
        let declared = self.module.statistics.iter().find(|s| s.name == name);
        let s = declared.ok_or_else(|| format!("statistic `{name}` is not declared"))?;
        self.kernel
            .stats
            .counter(self.module.name, s.name, s.help, s.gauge)
            .ok_or_else(|| "too many statistics".to_owned())
    }

    /// Keep the module's state; found again by its type.
    pub fn provide<T: Any + Send + Sync>(&mut self, state: T) {
        self.kernel.put_state(Arc::new(state));
    }

    /// Keep one `T` per worker, made on that worker's thread.
    pub fn per_shard<T: 'static>(&mut self, make: impl Fn(usize) -> T + Send + Sync + 'static) {
        self.kernel.put_shard_part(Box::new(move |worker| {
            (TypeId::of::<T>(), Box::new(make(worker)) as Box<dyn Any>)
        }));
    }

    /// Open the database of parameter `db_url` (or the default one) and check the version of the tables.
    pub fn store(&self, url: Option<&str>, tables: &[(&str, u32)]) -> Result<Arc<dyn Store>, String> {
        let store = block_on(self.kernel.open_store(url)).map_err(|e| e.to_string())?;
        let versions = self.kernel.settings.str("db_version_table").unwrap_or("version");
        for (table, expected) in tables {
            let sql = format!("SELECT table_version FROM {versions} WHERE table_name = ?");
            let rows = block_on(store.fetch(Query::new(sql, vec![SqlValue::from(*table)])))
                .map_err(|e| format!("table `{versions}`: {e}"))?;
            let found = rows.rows.first().and_then(|r| r.first()).and_then(SqlValue::to_int);
            match found {
                Some(v) if v == i64::from(*expected) => {}
                Some(v) => {
                    return Err(format!(
                        "table `{table}` has version {v}, this program needs {expected}; migrate it with `switchroom db migrate`"
                    ));
                }
                None => {
                    return Err(format!(
                        "table `{versions}` has no row for `{table}` (version {expected} is needed); create the tables with `switchroom db init`"
                    ));
                }
            }
        }
        Ok(store)
    }

    fn last(&self, name: &str) -> Option<&Setting> {
        self.params.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    fn default(&self, name: &str) -> Option<&'static str> {
        self.module.params.iter().find(|p: &&Param| p.name == name).and_then(|p| p.default)
    }
}

/// Wait for a future on this thread. For start-up and shutdown only, where nothing else is served yet.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
