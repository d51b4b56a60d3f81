//! Receipts of applications that wait for what a phone says (RFC 5438). They lie in the table from the moment the phone has
//! taken the message until the application has taken the receipt, whether it is bound meanwhile or not.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use switchroom_kernel::ports::store::Query;
use switchroom_wire::smpp::{MessageState, push_tlv, receipt, tag};

use super::answer::{Answer, Verdict};
use super::connection;
use super::gateway::Gateway;
use super::kept::{self, Kept, Kind, MOST};
use super::outgoing::{Failure, Outgoing, Party};

/// Receipts for an application, one for each part of what it submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipts {
    pub connection: String,
    /// Our names of the parts.
    pub ids: Vec<Vec<u8>>,
    pub source: Party,
    pub destination: Party,
    /// Unix seconds.
    pub submitted: i64,
    /// `registered_delivery` of the message.
    pub wanted: u8,
}

impl Receipts {
    /// Whether this end is wanted: 1 any, 2 failures, 3 success (SMPP 5.0 §4.7.21).
    fn wants(&self, state: MessageState) -> bool {
        let success = matches!(state, MessageState::Delivered | MessageState::Accepted);
        match self.wanted & 0x03 {
            1 => true,
            2 => !success,
            3 => success,
            _ => false,
        }
    }

    /// The receipt for one part.
    fn of(&self, id: &[u8], state: MessageState, now: i64) -> Outgoing {
        let receipt = receipt::Receipt {
            id,
            submitted: 1,
            delivered: u16::from(state == MessageState::Delivered),
            submit: self.submitted,
            done: now,
            state,
            error: b"0",
            text: &[],
        };
        let mut tlvs = Vec::new();
        push_tlv(&mut tlvs, tag::RECEIPTED_MESSAGE_ID, &[id, &b"\0"[..]].concat());
        push_tlv(&mut tlvs, tag::MESSAGE_STATE, &[state as u8]);
        Outgoing {
            source: self.destination.clone(),
            destination: self.source.clone(),
            esm_class: 0x04,
            text: receipt.write(0),
            tlvs,
            ..Outgoing::default()
        }
    }

    fn pack(&self) -> Vec<u8> {
        let party = |p: &Party| [&[p.ton, p.npi][..], &p.addr].concat();
        let (source, destination) = (party(&self.source), party(&self.destination));
        let wanted = [self.wanted];
        let head = [&wanted[..], &source, &destination];
        kept::pack(head.into_iter().chain(self.ids.iter().map(|id| &id[..])))
    }

    fn unpack(row: &Kept) -> Option<Receipts> {
        let fields = kept::unpack(&row.content)?;
        let [wanted, source, destination, ids @ ..] = &fields[..] else { return None };
        let &[wanted] = *wanted else { return None };
        let party = |octets: &[u8]| match octets {
            [ton, npi, addr @ ..] => Some(Party { ton: *ton, npi: *npi, addr: addr.to_vec() }),
            _ => None,
        };
        Some(Receipts {
            connection: row.connection.clone(),
            ids: ids.iter().map(|id| id.to_vec()).collect(),
            source: party(source)?,
            destination: party(destination)?,
            submitted: row.moment,
            wanted,
        })
    }
}

struct Entry {
    receipts: Arc<Receipts>,
    /// The phone has taken the message.
    taken: bool,
    /// What the phone has said.
    told: Option<MessageState>,
    /// The application is being told.
    sending: bool,
}

/// Everything that phones were asked about, by the names they were given.
#[derive(Default)]
pub(super) struct Phones {
    by_name: HashMap<String, Entry>,
    by_time: BTreeSet<(i64, String)>,
}

impl Phones {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    fn put(&mut self, name: String, receipts: Arc<Receipts>, taken: bool, told: Option<MessageState>) {
        self.by_time.insert((receipts.submitted, name.clone()));
        self.by_name.insert(name, Entry { receipts, taken, told, sending: false });
    }

    fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.by_name.remove(name)?;
        self.by_time.remove(&(entry.receipts.submitted, name.to_owned()));
        Some(entry)
    }

    /// Those who waited when the process ended.
    pub fn restore(&mut self, rows: Vec<Kept>) {
        for row in rows {
            let Some(receipts) = Receipts::unpack(&row) else {
                tracing::error!("proto_smpp: the row {} of smpp_report is broken and is left out", row.name);
                continue;
            };
            let told = u8::try_from(row.state).ok().filter(|s| *s > 0).and_then(MessageState::from_number);
            self.put(row.name, Arc::new(receipts), true, told);
        }
    }

    /// Names of what can be told to an application, of one connection or of all.
    fn to_tell(&self, connection: Option<&str>) -> Vec<String> {
        let is_its = |e: &Entry| connection.is_none_or(|c| c == e.receipts.connection);
        let ready =
            self.by_name.iter().filter(|(_, e)| e.taken && e.told.is_some() && !e.sending && is_its(e));
        ready.map(|(name, _)| name.clone()).collect()
    }

    /// Phones that have said nothing for so long that they never will.
    fn give_up(&mut self, before: i64) {
        let old: Vec<String> =
            self.by_time.iter().take_while(|(at, _)| *at <= before).map(|(_, name)| name.clone()).collect();
        for name in old {
            if let Some(entry) = self.by_name.get_mut(&name).filter(|e| e.taken && e.told.is_none()) {
                // It has the message, as far as anybody knows.
                entry.told = Some(MessageState::Accepted);
            }
        }
    }
}

/// A phone that is being asked; forgotten when this is dropped and the phone has not taken the message.
pub(super) struct Question {
    gateway: Arc<Gateway>,
    /// What the message is called in it.
    pub name: String,
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut phones = self.gateway.phones.lock();
        if phones.by_name.get(&self.name).is_some_and(|e| !e.taken) {
            phones.remove(&self.name);
        }
    }
}

impl Gateway {
    /// A phone is going to be asked. `None` when too many are asked already.
    pub fn ask_phone(self: &Arc<Self>, receipts: &Receipts) -> Option<Question> {
        let mut chance = [0; 8];
        // Who does not know the name cannot make a receipt of it.
        SystemRandom::new().fill(&mut chance).ok()?;
        let own = String::from_utf8_lossy(receipts.ids.first()?).into_owned();
        let name = format!("smpp-{own}-{:016x}", u64::from_be_bytes(chance));
        let mut phones = self.phones.lock();
        if phones.len() >= MOST {
            tracing::warn!("proto_smpp: {MOST} phones were asked and have said nothing; no more are asked");
            return None;
        }
        phones.put(name.clone(), Arc::new(receipts.clone()), false, None);
        Some(Question { gateway: self.clone(), name })
    }

    /// The phone has taken the message: the peer hears of it when that is written.
    pub fn phone_took(self: &Arc<Self>, name: &str, answer: Answer) {
        let name = name.to_owned();
        let row = {
            let mut phones = self.phones.lock();
            let Some(entry) = phones.by_name.get_mut(&name) else {
                drop(phones);
                return answer.give(Verdict::Taken);
            };
            entry.taken = true;
            Kept {
                kind: Kind::Application,
                connection: entry.receipts.connection.clone(),
                name: name.clone(),
                letter: 0,
                state: entry.told.map_or(0, |s| s as i64),
                moment: entry.receipts.submitted,
                content: entry.receipts.pack(),
            }
        };
        let gateway = self.clone();
        self.spawn.spawn(Box::pin(async move {
            gateway.write(vec![row.insert()]).await;
            answer.give(Verdict::Taken);
            gateway.tell_application(&name);
        }));
    }

    /// A phone says what became of a message. False when it was not asked.
    pub fn notified(self: &Arc<Self>, name: &str, delivered: bool) -> bool {
        let state = if delivered { MessageState::Delivered } else { MessageState::Undeliverable };
        {
            let mut phones = self.phones.lock();
            let Some(entry) = phones.by_name.get_mut(name).filter(|e| e.told.is_none()) else { return false };
            entry.told = Some(state);
        }
        self.tell_application(name);
        true
    }

    /// An application is there again.
    pub fn tell_all(self: &Arc<Self>, connection: Option<&str>) {
        let names = self.phones.lock().to_tell(connection);
        names.iter().for_each(|name| self.tell_application(name));
    }

    /// Once a minute: phones that never say anything, and applications that were not told.
    pub fn look_after_phones(self: &Arc<Self>) {
        self.phones.lock().give_up(self.unix() as i64 - self.imdn_wait);
        self.tell_all(None);
    }

    fn tell_application(self: &Arc<Self>, name: &str) {
        let (receipts, state) = {
            let mut phones = self.phones.lock();
            let Some(entry) = phones.by_name.get_mut(name).filter(|e| e.taken && !e.sending) else { return };
            let Some(state) = entry.told else { return };
            entry.sending = true;
            (entry.receipts.clone(), state)
        };
        let (gateway, name) = (self.clone(), name.to_owned());
        self.spawn.spawn(Box::pin(async move {
            let queries = match gateway.send_receipts(&receipts, state).await {
                true => {
                    gateway.phones.lock().remove(&name);
                    vec![kept::forget(Kind::Application, &receipts.connection, &name)]
                }
                false => {
                    if let Some(entry) = gateway.phones.lock().by_name.get_mut(&name) {
                        entry.sending = false;
                    }
                    vec![kept::tell(&receipts.connection, &name, state as i64)]
                }
            };
            gateway.write(queries).await;
        }));
    }

    /// Sends the receipts. False when the application is not there, or wants them later.
    pub async fn send_receipts(self: &Arc<Self>, receipts: &Receipts, state: MessageState) -> bool {
        if !receipts.wants(state) {
            return true;
        }
        // An application whose row is gone will not be there again.
        let Some(connection) = self.find(&receipts.connection) else { return true };
        let mut waits = Vec::new();
        for id in &receipts.ids {
            let made = receipts.of(id, state, self.unix() as i64);
            waits.push(connection::submit(self, &connection, made, self.clock.now() + self.send_wait));
        }
        let mut done = true;
        for wait in waits {
            done &= match wait.await {
                Some(Ok(_)) => true,
                Some(Err(Failure::Refused(status))) => !status.is_temporary(),
                _ => false,
            };
        }
        done
    }

    /// Writes rows of `smpp_report`, when there is that table.
    pub async fn write(&self, queries: Vec<Query>) {
        if !self.keeps_reports || queries.is_empty() {
            return;
        }
        if let Err(e) = self.table.store.batch(queries).await {
            tracing::error!("proto_smpp: table smpp_report cannot be written: {e}");
        }
    }

    /// The same, while nobody waits for it.
    pub fn note(self: &Arc<Self>, queries: Vec<Query>) {
        let gateway = self.clone();
        self.spawn.spawn(Box::pin(async move { gateway.write(queries).await }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(wanted: u8) -> Receipts {
        let party = |addr: &[u8]| Party { ton: 1, npi: 1, addr: addr.to_vec() };
        Receipts {
            connection: "app".into(),
            ids: vec![b"1f".to_vec(), b"20".to_vec()],
            source: party(b"Caf\xe9"),
            destination: party(b"4930"),
            submitted: 100,
            wanted,
        }
    }

    fn row(state: i64) -> Kept {
        let kind = Kind::Application;
        let content = receipts(1).pack();
        Kept { kind, connection: "app".into(), name: "n".into(), letter: 0, state, moment: 100, content }
    }

    #[test]
    fn what_was_written_is_read_and_broken_rows_are_left_out() {
        assert_eq!(Receipts::unpack(&row(0)), Some(receipts(1)));
        let mut phones = Phones::default();
        phones.restore(vec![row(0), Kept { name: "broken".into(), content: vec![7], ..row(0) }]);
        assert_eq!((phones.len(), phones.to_tell(None).len()), (1, 0));
        phones.restore(vec![Kept { name: "told".into(), ..row(2) }]);
        assert_eq!(phones.to_tell(Some("app")), ["told"]);
        assert!(phones.to_tell(Some("other")).is_empty());
    }

    #[test]
    fn only_the_end_that_was_asked_for_is_told() {
        let ends = [MessageState::Delivered, MessageState::Accepted, MessageState::Undeliverable];
        for (wanted, told) in
            [(1, [true; 3]), (2, [false, false, true]), (3, [true, true, false]), (0, [false; 3])]
        {
            assert_eq!(ends.map(|end| receipts(wanted).wants(end)), told, "{wanted}");
        }
    }

    #[test]
    fn a_phone_that_says_nothing_has_the_message() {
        let mut phones = Phones::default();
        phones.restore(vec![row(0)]);
        phones.give_up(99);
        assert!(phones.to_tell(None).is_empty());
        phones.give_up(100);
        assert_eq!(phones.to_tell(None), ["n"]);
        assert_eq!(phones.by_name["n"].told, Some(MessageState::Accepted));
        assert!(phones.remove("n").is_some() && phones.by_time.is_empty());
    }
}
