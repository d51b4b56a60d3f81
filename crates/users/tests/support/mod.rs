//! A house on stage for scripts under test, with a database that is a function.

use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::kernel::Kernel;
use switchroom_kernel::load::Source;
use switchroom_kernel::module::Module;
use switchroom_kernel::ports::net::Proto;
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
        let catalogue: Vec<&'static Module> =
            switchroom_calls::MODULES.iter().chain(switchroom_users::MODULES).copied().collect();
        let text = format!("socket=udp:127.0.0.1:5060\ndb_default_url=\"test:\"\n{script}");
        let stage = Rehearsal::open(Setup {
            source: Source::Text("test.cfg".into(), Arc::from(text.as_bytes())),
            catalogue: &catalogue,
            always: &["core"],
            stores: vec![Arc::new(Canned::new("test", &catalogue, Arc::new(answer)))],
            arguments: Vec::new(),
            unix: 1_000_000,
        });
        let stage = stage.unwrap_or_else(|e| panic!("{e}"));
        House { kernel: stage.kernel.clone(), stage }
    }

    /// Hand in a message and do all that follows from it; gives what was sent, in order.
    pub fn take(&self, message: &str) -> Vec<String> {
        self.stage.receive(([127, 0, 0, 1], 5070).into(), Proto::Udp, message.to_owned());
        // What a script sleeps for takes no time of ours.
        for _ in 0..20 {
            if self.stage.shard.waiting() == 0 {
                break;
            }
            if let Some(next) = self.stage.clock.next() {
                self.stage.clock.set(next);
            }
            self.stage.settle();
        }
        self.stage.sent().into_iter().map(|s| s.text).collect()
    }

    /// The same where exactly one message, 100 aside, is expected.
    #[track_caller]
    pub fn one(&self, message: &str) -> String {
        let all = self.take(message);
        let mut sent: Vec<String> = all.into_iter().filter(|m| !m.starts_with("SIP/2.0 100")).collect();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.remove(0)
    }

    /// Let time pass; what is sent again meanwhile is of no interest.
    pub fn pass(&self, seconds: u64) {
        self.stage.advance(Duration::from_secs(seconds));
        self.stage.sent();
    }
}
