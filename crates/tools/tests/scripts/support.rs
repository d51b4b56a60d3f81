//! A house on stage for scripts under test, with a database made of a closure. Time stands still until it is moved, except that
//! a script that sleeps wakes at once.

use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Module;
use switchroom_kernel::kernel::{Drivers, Kernel};
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::{Clock, Proto};
use switchroom_kernel::ports::store::{SqlValue, StoreError};
use switchroom_rehearsal::{Canned, Rehearsal, Setup};

/// Answers a query; the text of the statement and its arguments.
pub type Answer = fn(&str, &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError>;

/// How long a script may wait for what is outside.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running house.
pub struct House {
    /// What all share.
    pub kernel: Arc<Kernel>,
    stage: Rehearsal,
}

impl House {
    /// With this script; `answer` is the database.
    pub fn start(script: &str, answer: Answer) -> House {
        House::with(script, answer, |_| {})
    }

    /// The same with other drivers.
    pub fn with(script: &str, answer: Answer, change: impl FnOnce(&mut Drivers)) -> House {
        let catalogue: Vec<&'static Module> = [switchroom_calls::MODULES, switchroom_tools::MODULES].concat();
        let text = format!("socket=udp:127.0.0.1:5060\ndb_default_url=\"test:\"\n{script}");
        let setup = Setup {
            source: Source::Text("test.cfg".into(), text.as_bytes().into()),
            catalogue: &catalogue,
            always: &["core", "cache"],
            stores: vec![Arc::new(Canned::new("test", &catalogue, Arc::new(answer)))],
            arguments: Vec::new(),
            unix: 1_000_000,
        };
        let stage = Rehearsal::open_with(setup, change).unwrap_or_else(|e| panic!("{e}"));
        stage.wait_outside(PATIENCE);
        House { kernel: stage.kernel.clone(), stage }
    }

    /// Hand in a message and do all that follows from it; gives what was sent, in order.
    pub fn take(&self, message: &str) -> Vec<String> {
        self.stage.receive(([127, 0, 0, 1], 5070).into(), Proto::Udp, message.to_owned());
        for _ in 0..100 {
            // Sleeps of scripts, not those of the modules' tasks, which begin anew.
            match self.stage.clock.next().filter(|_| self.stage.shard.waiting() > 0) {
                Some(next) => self.stage.advance(next.saturating_duration_since(self.stage.clock.now())),
                None => break,
            }
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

    /// Hand in an OPTIONS and give the value of the answer's header `X`, which the script under test writes.
    #[track_caller]
    pub fn ask(&self, number: u32) -> String {
        let answer = self.one(&format!(
            "OPTIONS sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{number}\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c{number}\r\n\
             CSeq: {number} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ));
        let found = answer.lines().find_map(|l| l.strip_prefix("X: ").map(str::to_owned));
        found.unwrap_or_else(|| panic!("no X in {answer}"))
    }

    /// Let time pass.
    pub fn pass(&self, seconds: u64) {
        self.stage.clock.set(self.stage.clock.now() + Duration::from_secs(seconds));
    }
}
