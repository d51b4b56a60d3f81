//! The centre over a real SQLite file, with destinations that do as they are told.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use parking_lot::Mutex;
use switchroom_data::schema;
use switchroom_data::sqlite::SqliteDriver;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::absent::Absent;
use switchroom_kernel::ports::net::{BoxFuture, Spawn};
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreDriver, StoreOptions};
use switchroom_money::credit::api::{Credit, Price, Settings as CreditSettings};
use switchroom_rehearsal::VirtualClock;
use switchroom_wire::smpp::{MessageState, Status, receipt};

use super::centre::{Base, Centre, Outcome, Outlet, Settings, Submission};
use super::message::{Addr, Content, Message, Nature};

/// Runs the writer between steps, on this thread.
struct Here;

impl Spawn for Here {
    fn spawn(&self, future: BoxFuture<()>) {
        block_on(future);
    }
}

/// Takes messages and writes them down.
#[derive(Default)]
struct Shelf {
    room: Mutex<usize>,
    taken: Mutex<Vec<Message>>,
}

impl Outlet for Shelf {
    fn room(&self) -> usize {
        *self.room.lock()
    }
    fn send(&self, _: &Arc<Centre>, message: &Message) -> bool {
        let mut room = self.room.lock();
        if *room == 0 {
            return false;
        }
        *room -= 1;
        self.taken.lock().push(message.clone());
        true
    }
}

struct Stage {
    centre: Arc<Centre>,
    shelf: Arc<Shelf>,
    receipts: Arc<Shelf>,
    clock: Arc<VirtualClock>,
    store: Arc<dyn Store>,
    credit: Arc<Credit>,
}

const NOW: u64 = 1_700_000_000;

impl Stage {
    fn new(driver: &SqliteDriver, folder: &tempfile::TempDir, unix: u64) -> Stage {
        let url = format!("sqlite://{}", folder.path().join("sms.sqlite").display());
        let options = StoreOptions::from([("create".to_owned(), vec!["1".to_owned()])]);
        let store = block_on(driver.open(&url, &options)).unwrap();
        block_on(schema::create_all(&*store)).unwrap();
        let sql = |sql: &str| block_on(store.execute(Query::new(sql, Vec::new()))).unwrap();
        let rows =
            block_on(store.fetch(Query::new("SELECT system_id FROM sms_account", Vec::new()))).unwrap();
        if rows.rows.is_empty() {
            sql("INSERT INTO sms_account (system_id, credit) VALUES ('shop', 'money')");
            sql("INSERT INTO sms_account (system_id) VALUES ('free')");
            sql("INSERT INTO sms_route (target, prefix) VALUES ('smsc:up', '49')");
            sql("INSERT INTO sms_policy (kind, value) VALUES ('word', 'casino')");
        }
        let credit = block_on(Credit::load(store.clone(), None, 0)).unwrap();
        if credit.names().is_empty() {
            let settings = CreditSettings { tariff: "t".into(), currency: "EUR".into(), enabled: true };
            block_on(credit.create("money", 0, settings)).unwrap();
            block_on(credit.topup("money", 100, String::new(), 0)).unwrap();
            block_on(credit.set_price("t", "4915", Price { message: 0, part: 40 })).unwrap();
        }
        let clock = Arc::new(VirtualClock::new(unix));
        let cell = OnceLock::new();
        let _ = cell.set(credit.clone());
        let base = Base {
            clock: clock.clone(),
            spawn: Arc::new(Here),
            web: Arc::new(Absent),
            store: store.clone(),
            credit: Arc::new(cell),
            aliases: None,
            stats: None,
        };
        let settings = Settings {
            system_id: "house".into(),
            validity: 1000,
            longest_validity: 5000,
            retry: vec![10, 100],
            most: 100,
            max_parts: 10,
            keep: 86_400,
            offset: 0,
            join: 60,
            imdn: false,
        };
        let centre = block_on(Centre::load(settings, base)).unwrap();
        let (shelf, receipts) = (Arc::new(Shelf::default()), Arc::new(Shelf::default()));
        *receipts.room.lock() = 100;
        centre.add_outlet("smsc:up".into(), shelf.clone());
        centre.add_outlet("account:shop".into(), receipts.clone());
        centre.add_outlet("account:free".into(), receipts.clone());
        Stage { centre, shelf, receipts, clock, store, credit }
    }

    fn run(&self) {
        // The writer and the driver's thread take turns until nothing is left to write.
        for _ in 0..4 {
            block_on(self.centre.writer.flush());
        }
    }

    fn pass(&self, seconds: u64) {
        use switchroom_kernel::ports::net::Clock;
        for _ in 0..seconds {
            self.clock.set(self.clock.now() + std::time::Duration::from_secs(1));
            self.centre.tick();
            self.run();
        }
    }

    fn submit(&self, account: &str, s: Submission) -> Result<u64, Status> {
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        let customer = self.centre.customer(account).unwrap();
        self.centre.submit(&customer, s, Box::new(move |r| *tell.lock() = Some(r)));
        self.run();
        let result = told.lock().take();
        result.unwrap()
    }

    fn taken(&self) -> Vec<u64> {
        self.shelf.taken.lock().drain(..).map(|m| m.id).collect()
    }

    fn money(&self) -> (i64, i64) {
        let shown = self.credit.show("money").unwrap();
        (shown.balance, shown.reserved)
    }
}

fn hello() -> Submission {
    Submission {
        source: Addr::parse("Shop"),
        destination: Addr::parse("+491512345678"),
        content: Content { text: b"hello".as_slice().into(), registered_delivery: 1, ..Content::default() },
        ..Submission::default()
    }
}

fn stage() -> (SqliteDriver, tempfile::TempDir) {
    (SqliteDriver::start().unwrap(), tempfile::tempdir().unwrap())
}

#[test]
fn a_message_is_delivered_paid_and_confirmed() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 10;
    let id = stage.submit("shop", hello()).unwrap();
    assert_eq!(stage.taken(), [id]);
    assert_eq!(stage.money(), (60, 40));
    stage.centre.outcome(id, Outcome::Taken("00AB".into()));
    assert_eq!(block_on(stage.centre.query("shop", id)).unwrap().0, MessageState::Enroute);
    assert!(block_on(stage.centre.query("free", id)).is_none());
    stage.centre.remote_receipt(&"smsc:up".into(), "171", MessageState::Delivered, 0);
    stage.run();
    assert_eq!(stage.money(), (60, 0));
    let receipts = stage.receipts.taken.lock().clone();
    assert_eq!(receipts.len(), 1);
    let text = receipt::read(&receipts[0].content.text).unwrap();
    assert_eq!((text.id, text.stat), (id.to_string().as_bytes(), &b"DELIVRD"[..]));
    assert_eq!(receipts[0].source.text(), "491512345678");
    assert_eq!(receipts[0].nature, Nature::Receipt);
    let (state, done, _) = block_on(stage.centre.query("shop", id)).unwrap();
    assert_eq!((state, done), (MessageState::Delivered, NOW as i64));
}

#[test]
fn a_receipt_before_the_answer_finds_its_message() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 10;
    let id = stage.submit("shop", hello()).unwrap();
    stage.centre.remote_receipt(&"smsc:up".into(), "77", MessageState::Delivered, 0);
    stage.centre.outcome(id, Outcome::Taken("77".into()));
    stage.run();
    assert_eq!(block_on(stage.centre.query("shop", id)).unwrap().0, MessageState::Delivered);
}

#[test]
fn each_refusal_has_its_status_and_costs_nothing() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    let to = |number: &str| Submission { destination: Addr::parse(number), ..hello() };
    assert_eq!(stage.submit("shop", to("+33123456789")), Err(Status::NOROUTE));
    assert_eq!(stage.submit("shop", to("+49301234567")), Err(Status::NOTARIFF));
    let mut rude = hello();
    rude.content.text = b"CASINO".as_slice().into();
    assert_eq!(stage.submit("shop", rude), Err(Status::FORBIDDENWORDS));
    let late = Submission { validity: Some(NOW as i64 - 1), ..hello() };
    assert_eq!(stage.submit("shop", late), Err(Status::INVEXPIRY));
    assert_eq!(stage.money(), (100, 0));
    stage.submit("shop", hello()).unwrap();
    stage.submit("shop", hello()).unwrap();
    assert_eq!(stage.submit("shop", hello()), Err(Status::NOFUNDS));
    assert_eq!(stage.money(), (20, 80));
}

#[test]
fn what_was_accepted_survives_the_process_and_is_delivered_once() {
    let (driver, folder) = stage();
    let (a, b, c) = {
        let stage = Stage::new(&driver, &folder, NOW);
        let a = stage.submit("free", hello()).unwrap();
        *stage.shelf.room.lock() = 2;
        let later = Submission { schedule: Some(NOW as i64 + 50), ..hello() };
        let b = stage.submit("free", later).unwrap();
        stage.pass(1);
        assert_eq!(stage.taken(), [a]);
        stage.centre.outcome(a, Outcome::Delivered);
        let c = stage.submit("free", hello()).unwrap();
        assert_eq!(stage.taken(), [c]);
        stage.run();
        (a, b, c)
    };
    // Without an orderly end: what is known is what was written.
    let stage = Stage::new(&driver, &folder, NOW + 10);
    *stage.shelf.room.lock() = 10;
    stage.pass(1);
    assert_eq!(stage.taken(), [c], "its outcome was not known; {a} was delivered");
    stage.centre.outcome(c, Outcome::Delivered);
    stage.pass(60);
    assert_eq!(stage.taken(), [b]);
}

#[test]
fn failed_attempts_are_repeated_and_end_with_the_validity() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 100;
    let id = stage.submit("shop", hello()).unwrap();
    assert_eq!(stage.taken(), [id]);
    stage.centre.outcome(id, Outcome::Temporary(Status::SYSERR));
    stage.pass(9);
    assert!(stage.taken().is_empty());
    stage.pass(2);
    assert_eq!(stage.taken(), [id]);
    stage.centre.outcome(id, Outcome::Throttled);
    stage.pass(2);
    assert_eq!(stage.taken(), [id], "a pause is no attempt");
    stage.centre.outcome(id, Outcome::Temporary(Status::SYSERR));
    stage.pass(95);
    assert!(stage.taken().is_empty());
    for _ in 0..9 {
        stage.pass(101);
        if stage.taken() == [id] {
            stage.centre.outcome(id, Outcome::Temporary(Status::SYSERR));
        }
    }
    stage.run();
    assert_eq!(block_on(stage.centre.query("shop", id)).unwrap().0, MessageState::Expired);
    assert_eq!(stage.money(), (100, 0));
}

#[test]
fn a_receipt_that_is_refused_comes_again() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 100;
    let id = stage.submit("free", hello()).unwrap();
    stage.centre.outcome(id, Outcome::Permanent(Status::INVDSTADR));
    stage.run();
    let receipt = stage.receipts.taken.lock().pop().unwrap();
    assert_eq!(receipt::read(&receipt.content.text).unwrap().stat, b"UNDELIV");
    stage.centre.outcome(receipt.id, Outcome::Permanent(Status::RX_P_APPN));
    stage.pass(11);
    assert_eq!(stage.receipts.taken.lock().pop().unwrap().id, receipt.id);
    stage.centre.outcome(receipt.id, Outcome::Delivered);
    stage.run();
    assert_eq!(stage.centre.depths().0, 0);
}

#[test]
fn waiting_messages_are_cancelled_replaced_and_changed() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    let a = stage.submit("shop", hello()).unwrap();
    assert!(!stage.centre.cancel("free", a), "not theirs");
    let second = Submission { replace: true, ..hello() };
    let b = stage.submit("shop", second).unwrap();
    stage.run();
    assert_eq!(block_on(stage.centre.query("shop", a)).unwrap().0, MessageState::Deleted);
    let change = |c: &mut Content| c.text = b"bye".as_slice().into();
    assert!(!stage.centre.replace("shop", b, b"Bank", None, None, change));
    assert!(stage.centre.replace("shop", b, b"Shop", None, None, change));
    stage.run();
    let sql = Query::new("SELECT content FROM sms_message WHERE id = ?", vec![(b as i64).into()]);
    let rows = block_on(stage.store.fetch(sql)).unwrap();
    assert!(matches!(&rows.rows[0][0], SqlValue::Blob(o) if o.windows(3).any(|w| w == b"bye")));
    assert!(stage.centre.cancel("shop", b));
    stage.run();
    assert_eq!(stage.money(), (100, 0));
    assert!(!stage.centre.cancel("shop", b));
}

#[test]
fn a_full_house_takes_no_more() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    let quiet = || {
        let mut s = hello();
        s.content.registered_delivery = 0;
        s
    };
    for _ in 0..100 {
        stage.submit("free", quiet()).unwrap();
    }
    assert_eq!(stage.submit("free", quiet()), Err(Status::MSGQFUL));
    // Nobody is told anything before it is written.
    let customer = stage.centre.customer("free").unwrap();
    let told = Arc::new(Mutex::new(None));
    let tell = told.clone();
    let id = *stage.centre.depths().1.first().map(|(_, d)| &d.waiting).unwrap();
    assert_eq!(id, 100);
    assert!(stage.centre.cancel("free", 1));
    stage.centre.submit(&customer, quiet(), Box::new(move |r| *tell.lock() = Some(r)));
    assert!(told.lock().is_none());
    let mut flush = pin!(stage.centre.writer.flush());
    while flush.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    assert!(matches!(*told.lock(), Some(Ok(_))));
}

/// A second way for everything to 49.
fn two_ways(stage: &Stage) -> Arc<Shelf> {
    let sql = "INSERT INTO sms_route (target, prefix, priority) VALUES ('smsc:second', '49', 1)";
    block_on(stage.store.execute(Query::new(sql, Vec::new()))).unwrap();
    block_on(stage.centre.reload()).unwrap();
    let second = Arc::new(Shelf::default());
    *second.room.lock() = 100;
    stage.centre.add_outlet("smsc:second".into(), second.clone());
    *stage.shelf.room.lock() = 100;
    second
}

#[test]
fn a_failure_sends_a_message_over_its_next_route_and_is_said_when_all_have_failed() {
    let (driver, folder) = stage();
    let second = {
        let stage = Stage::new(&driver, &folder, NOW);
        let second = two_ways(&stage);
        // An error at once, and a receipt of failure later.
        let a = stage.submit("shop", hello()).unwrap();
        let b = stage.submit("free", hello()).unwrap();
        assert_eq!(stage.taken(), [a, b]);
        stage.centre.outcome(a, Outcome::Permanent(Status::INVDSTADR));
        stage.centre.outcome(b, Outcome::Taken("77".into()));
        stage.centre.remote_receipt(&"smsc:up".into(), "77", MessageState::Undeliverable, 5);
        stage.run();
        let taken: Vec<u64> = second.taken.lock().drain(..).map(|m| m.id).collect();
        assert_eq!(taken, [a, b]);
        assert!(stage.receipts.taken.lock().is_empty());
        assert_eq!(stage.money(), (60, 40));
        stage.centre.outcome(a, Outcome::Delivered);
        stage.run();
        assert_eq!(stage.money(), (60, 0));
        b
    };
    // Where a message has got to is not forgotten.
    let stage = Stage::new(&driver, &folder, NOW + 10);
    two_ways(&stage);
    stage.pass(1);
    assert!(stage.taken().is_empty());
    stage.centre.outcome(second, Outcome::Permanent(Status::SUBMITFAIL));
    stage.run();
    assert_eq!(block_on(stage.centre.query("free", second)).unwrap().0, MessageState::Undeliverable);
}

#[test]
fn all_routes_have_their_turn_before_a_pause() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    let second = two_ways(&stage);
    let id = stage.submit("free", hello()).unwrap();
    stage.centre.outcome(id, Outcome::Temporary(Status::SYSERR));
    stage.run();
    assert_eq!((stage.taken(), second.taken.lock().drain(..).count()), (vec![id], 1));
    stage.centre.outcome(id, Outcome::Temporary(Status::SYSERR));
    stage.pass(9);
    assert!(stage.taken().is_empty());
    stage.pass(3);
    assert_eq!(second.taken.lock().len() + stage.taken().len(), 1);
}

#[test]
fn transaction_mode_is_answered_with_the_outcome() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 2;
    let customer = stage.centre.customer("free").unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let submit = || {
        let tell = told.clone();
        let s = Submission { at_once: true, ..hello() };
        stage.centre.submit(&customer, s, Box::new(move |r| tell.lock().push(r)));
        stage.run();
    };
    submit();
    let first = stage.taken()[0];
    assert!(told.lock().is_empty(), "it is not over");
    stage.centre.outcome(first, Outcome::Delivered);
    assert_eq!(told.lock().drain(..).collect::<Vec<_>>(), [Ok(first)]);
    submit();
    stage.centre.outcome(stage.taken()[0], Outcome::Temporary(Status::SYSERR));
    assert_eq!(told.lock().drain(..).collect::<Vec<_>>(), [Err(Status::DELIVERYFAILURE)]);
    // Nobody is there to take it.
    submit();
    stage.pass(31);
    assert_eq!(told.lock().drain(..).collect::<Vec<_>>(), [Err(Status::DELIVERYFAILURE)]);
}

#[test]
fn a_sender_who_asked_hears_once_of_a_text_in_parts() {
    let (driver, folder) = stage();
    let stage = Stage::new(&driver, &folder, NOW);
    *stage.shelf.room.lock() = 100;
    let phone = Arc::new(Shelf::default());
    *phone.room.lock() = 100;
    stage.centre.add_outlet("sip:alice@example.org".into(), phone.clone());
    let asked = crate::imdn::Asked {
        user: "sip:alice@example.org".into(),
        message_id: "x1".into(),
        parts: 2,
        ..Default::default()
    };
    for outcomes in [[true, true], [true, false], [false, true], [false, false]] {
        stage.centre.expect(&asked);
        let part = || Submission { asked: Some(Box::new(asked.clone())), ..hello() };
        for delivered in outcomes {
            let id = stage.submit("free", part()).unwrap();
            let outcome = if delivered { Outcome::Delivered } else { Outcome::Permanent(Status::SYSERR) };
            stage.centre.outcome(id, outcome);
            stage.run();
        }
        let told: Vec<Message> = phone.taken.lock().drain(..).collect();
        assert_eq!(told.len(), 1, "{outcomes:?}");
        let all = outcomes[0] && outcomes[1];
        let text = receipt::read(&told[0].content.text).unwrap();
        assert_eq!(text.stat == b"DELIVRD", all, "{outcomes:?}");
        stage.centre.outcome(told[0].id, Outcome::Permanent(Status::SYSERR));
    }
    stage.run();
    assert_eq!(stage.centre.depths().0, 0, "a phone that does not want to know is not asked again");
}
