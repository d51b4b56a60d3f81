//! A house on stage for scripts under test, with a database made of a closure. Time stands still until it is moved, and what is
//! posted to the worker can be held back.

use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Module;
use switchroom_kernel::kernel::Kernel;
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::{Clock, Handler, Proto};
use switchroom_kernel::ports::store::{SqlValue, StoreError};
use switchroom_rehearsal::{Canned, Rehearsal, Setup};

/// Answers a query; the text of the statement and its arguments.
pub type Answer = fn(&str, &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError>;

/// A running house.
pub struct House {
    /// What all share.
    pub kernel: Arc<Kernel>,
    stage: Rehearsal,
}

impl House {
    /// With this script; `answer` is the database.
    pub fn start(script: &str, answer: Answer) -> House {
        let catalogue: Vec<&'static Module> = [switchroom_calls::MODULES, switchroom_users::MODULES].concat();
        let text = format!("socket=udp:127.0.0.1:5060\ndb_default_url=\"test:\"\n{script}");
        let setup = Setup {
            source: Source::Text("test.cfg".into(), text.as_bytes().into()),
            catalogue: &catalogue,
            always: &["core"],
            stores: vec![Arc::new(Canned::new("test", &catalogue, Arc::new(answer)))],
            arguments: Vec::new(),
            unix: 1_000_000,
        };
        let stage = Rehearsal::open(setup).unwrap_or_else(|e| panic!("{e}"));
        stage.wait_outside(Duration::ZERO);
        switchroom_calls::core::events::subscribe_routes(&stage.kernel);
        House { kernel: stage.kernel.clone(), stage }
    }

    /// Hand in a message and do all that follows from it; gives what was sent, in order.
    pub fn take(&self, message: &str) -> Vec<String> {
        self.put(message);
        self.settle()
    }

    /// Hand in a message, and leave what was posted to the worker in its mailbox.
    pub fn put(&self, message: &str) {
        self.stage.hand_in(([127, 0, 0, 1], 5070).into(), Proto::Udp, message.to_owned());
    }

    /// Do all that is waiting to be done at this moment; gives what was sent, in order.
    pub fn settle(&self) -> Vec<String> {
        self.stage.settle();
        self.stage.sent().into_iter().map(|s| s.text).collect()
    }

    /// Do what was posted to the worker.
    pub fn deliver_mail(&self) {
        self.stage.deliver_mail();
    }

    /// Timers of the worker up to now.
    pub fn tick(&self) {
        self.stage.shard.tick(self.stage.clock.now());
    }

    /// Tasks of the modules that are due.
    pub fn run_tasks(&self) {
        self.stage.run_tasks();
    }

    /// A statistic.
    pub fn stat(&self, name: &str) -> i64 {
        self.kernel.stats.get(name).unwrap_or_else(|| panic!("no statistic {name}"))
    }

    /// The same where exactly one message, 100 aside, is expected.
    #[track_caller]
    pub fn one(&self, message: &str) -> String {
        let all = self.take(message);
        let mut sent: Vec<String> = all.into_iter().filter(|m| !m.starts_with("SIP/2.0 100")).collect();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Let time pass; nothing is done in it.
    pub fn pass_ms(&self, ms: u64) {
        self.stage.clock.set(self.stage.clock.now() + Duration::from_millis(ms));
    }

    /// Let time pass.
    pub fn pass(&self, seconds: u64) {
        self.pass_ms(seconds * 1000);
    }
}
