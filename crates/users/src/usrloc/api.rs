//! What other modules may do with locations.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use smallvec::SmallVec;
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};

use super::contact::{Contact, Sync};
use super::events::Change;
use super::store;
use super::table::{Contacts, Table, order};
use super::{Location, WriteMode};

/// The table of that name; made when missing. Modules ask for theirs while they open, so that it is loaded at start.
pub fn table(location: &Location, name: &str) -> Arc<Table> {
    if let Some(t) = find(location, name) {
        return t;
    }
    let mut tables = location.tables.write();
    if let Some(t) = tables.iter().find(|t| t.name == name) {
        return t.clone();
    }
    let t = Arc::new(Table::new(name, location.hash_bits));
    tables.push(t.clone());
    count(location, &t);
    t
}

/// The statistics of one table: `location-users`, `location-contacts`, `location-expires`.
fn count(location: &Location, table: &Arc<Table>) {
    let put = |what: &str, help, read: fn(&Table) -> i64| {
        let table = table.clone();
        location.stats.computed("usrloc", &format!("{}-{what}", table.name), help, move || read(&table));
    };
    put("users", "Addresses of record in the table", |t| t.len() as i64);
    put("contacts", "Contacts in the table", |t| t.contacts() as i64);
    put("expires", "Contacts of the table that expired", |t| t.expired.load(Ordering::Relaxed) as i64);
}

/// The table of that name, when there is one.
pub fn find(location: &Location, name: &str) -> Option<Arc<Table>> {
    location.tables.read().iter().find(|t| t.name == name).cloned()
}

/// Names of all tables.
pub fn tables(location: &Location) -> Vec<Arc<Table>> {
    location.tables.read().clone()
}

/// A fresh key for a contact. Other servers make keys for the same table in `sql-only`; there it is a random one.
pub fn new_id(location: &Location) -> u64 {
    let next = location.next_id.fetch_add(1, Ordering::Relaxed);
    let id = if location.is_shared() { location.random.hash_one(next) } else { next };
    id & (i64::MAX as u64)
}

/// What [`change`] gives back: the caller's value, and the statements that make the database follow (empty unless the
/// mode is write-through).
pub struct Changed<T> {
    /// What the closure gave.
    pub value: T,
    /// To be run before the change is acknowledged.
    pub queries: Vec<Query>,
}

/// Change the contacts of an address of record. The closure works on them as it likes; afterwards they are put in order,
/// events are raised for what was added, changed or removed, and the database is told as the mode asks.
///
/// A contact that the closure changed must be marked with [`Contact::touch`]; a new one is by itself.
pub fn change<T>(
    kernel: &Kernel,
    worker: Option<usize>,
    table: &Table,
    aor: &[u8],
    work: impl FnOnce(&mut Contacts) -> T,
) -> Changed<T> {
    table
        .change(aor, |record| changing(kernel, table, aor, &mut record.contacts, work))
        .tell(kernel, worker, table, aor)
}

/// What a change has led to, before it is told.
pub(super) struct Done<T> {
    changed: Changed<T>,
    told: Vec<(Change, Contact)>,
    came: bool,
    went: bool,
}

/// The change itself, in the table or on contacts that were read from the database.
pub(super) fn changing<T>(
    kernel: &Kernel,
    table: &Table,
    aor: &[u8],
    contacts: &mut Contacts,
    work: impl FnOnce(&mut Contacts) -> T,
) -> Done<T> {
    let location = kernel.state::<Location>();
    let heard = location.events.heard(kernel);
    let mut told: Vec<(Change, Contact)> = Vec::new();
    let before: SmallVec<[(u64, Sync); 4]> = contacts.iter().map(|c| (c.id, c.sync)).collect();
    let old = if heard { contacts.clone() } else { Contacts::new() };
    let value = work(contacts);
    if contacts.len() > 1 {
        order(contacts, location.newest_first);
    }
    let at_once = matches!(location.write, WriteMode::Through | WriteMode::Only);
    let mut queries = Vec::new();
    for (id, sync) in before.iter().filter(|(id, _)| !contacts.iter().any(|c| c.id == *id)) {
        match location.write {
            WriteMode::Through | WriteMode::Only => queries.push(delete(location, table, *id)),
            WriteMode::Back => forget(location, table, *id, *sync),
            WriteMode::None => {}
        }
        told.extend(old.iter().filter(|o| o.id == *id).map(|gone| (Change::Delete, gone.clone())));
    }
    for c in contacts.iter_mut() {
        if !c.take_touched() {
            continue;
        }
        if heard {
            let what = if before.iter().any(|(id, _)| *id == c.id) { Change::Update } else { Change::Insert };
            told.push((what, c.clone()));
        }
        if at_once {
            queries.push(upsert(kernel, location, table, aor, c));
            c.sync = Sync::Clean;
        }
    }
    let came = before.is_empty() && !contacts.is_empty();
    let went = !before.is_empty() && contacts.is_empty();
    Done { changed: Changed { value, queries }, told, came, went }
}

impl<T> Done<T> {
    /// Raise the events. No lock may be held.
    pub(super) fn tell(
        self,
        kernel: &Kernel,
        worker: Option<usize>,
        table: &Table,
        aor: &[u8],
    ) -> Changed<T> {
        let events = kernel.state::<Location>().events;
        for (what, contact) in &self.told {
            events.contact(kernel, worker, *what, &table.name, aor, contact);
        }
        if self.came || self.went {
            events.aor(kernel, worker, self.came, &table.name, aor);
        }
        self.changed
    }
}

/// Make the database follow. Completes when it is durable; at once when there is nothing to write.
pub fn write(kernel: &Kernel, queries: Vec<Query>) -> BoxFuture<Result<(), StoreError>> {
    match &kernel.state::<Location>().store {
        Some(store) if !queries.is_empty() => store.batch(queries),
        _ => Box::pin(async { Ok(()) }),
    }
}

fn upsert(kernel: &Kernel, location: &Location, table: &Table, aor: &[u8], c: &Contact) -> Query {
    Query::new(location.columns.upsert(&table.name), store::row(kernel, aor, location.use_domain, c))
}

fn delete(location: &Location, table: &Table, id: u64) -> Query {
    Query::new(location.columns.delete(&table.name), vec![SqlValue::Int(id as i64)])
}

/// Fill a table from the database, a page after the other, so that a large table is never in memory twice. Gives the number of
/// contacts.
pub async fn load(kernel: &Arc<Kernel>, name: &str) -> Result<usize, StoreError> {
    let location = kernel.state::<Location>();
    let Some(db) = &location.store else { return Ok(0) };
    let table = table(location, name);
    let (mut count, mut bad, mut after) = (0, 0, None);
    loop {
        let rows = db.fetch(location.columns.loading(name, after.take(), PAGE)).await?;
        let full = rows.rows.len() == PAGE;
        after = rows.rows.last().and_then(|row| row.first()).cloned().filter(|_| full);
        let (rows, left_out) = store::read_rows(kernel, location.use_domain, rows);
        bad += left_out;
        count += rows.len();
        for (aor, mut contact) in rows {
            if contact.id == 0 {
                contact.id = new_id(location);
            }
            table.change(&aor, |r| {
                r.contacts.push(contact);
                if r.contacts.len() > 1 {
                    r.contacts.sort_by_key(|c| c.modified);
                    order(&mut r.contacts, location.newest_first);
                }
            });
        }
        if after.is_none() {
            break;
        }
    }
    if bad > 0 {
        tracing::warn!("location table \"{name}\": {bad} rows make no sense and were left out");
    }
    super::sleepers::index(location, &table);
    Ok(count)
}

/// Ask for the refresh of a push contact: raise E_UL_CONTACT_REFRESH. `reason` is `reg-refresh`, or `ini-` or `mid-` and
/// the method of the request that waits, whose Call-ID is `call_id`.
pub fn ask_refresh(
    kernel: &Kernel,
    worker: Option<usize>,
    table: &Table,
    aor: &[u8],
    contact: &Contact,
    reason: &str,
    call_id: &[u8],
) {
    let events = kernel.state::<Location>().events;
    events.refresh(kernel, worker, &table.name, aor, contact, reason, call_id);
}

/// Remove expired contacts, a part of a table after the other, so that nobody waits long for one.
pub async fn sweep(kernel: &Arc<Kernel>) {
    let location = kernel.state::<Location>();
    let now = kernel.unix();
    for table in tables(location) {
        for part in 0..table.parts() {
            sweep_part(kernel, location, &table, part, now);
            give_way().await;
        }
    }
}

fn sweep_part(kernel: &Kernel, location: &Location, table: &Table, part: usize, now: u64) {
    let mut gone: Vec<(Vec<u8>, Contact, bool)> = Vec::new();
    table.retain_in(part, |aor, record| {
        if record.contacts.iter().all(|c| c.is_live(now)) {
            return true;
        }
        let mut dead: Vec<Contact> = Vec::new();
        record.contacts.retain(|c| {
            let live = c.is_live(now);
            if !live {
                dead.push(c.clone());
            }
            live
        });
        let last = record.contacts.is_empty();
        let count = dead.len();
        let with_end = dead.into_iter().enumerate();
        gone.extend(with_end.map(|(i, c)| (aor.to_vec(), c, last && i + 1 == count)));
        !(last && record.keys.is_empty())
    });
    table.expired.fetch_add(gone.len() as u64, Ordering::Relaxed);
    for (aor, contact, last) in gone {
        if location.write != WriteMode::None {
            forget(location, table, contact.id, contact.sync);
        }
        location.events.contact(kernel, None, Change::Delete, &table.name, &aor, &contact);
        if last {
            location.events.aor(kernel, None, false, &table.name, &aor);
        }
    }
}

/// Have the row of a contact that is gone deleted in the next round. There are never more of these than rows.
fn forget(location: &Location, table: &Table, id: u64, sync: Sync) {
    if sync != Sync::New {
        location.deleted.lock().push((table.name.clone(), id));
    }
}

/// Write what memory has and the database has not, a page after the other.
pub async fn flush(kernel: &Arc<Kernel>) {
    let location = kernel.state::<Location>();
    let Some(db) = &location.store else { return };
    if matches!(location.write, WriteMode::None | WriteMode::Only) {
        return;
    }
    if let Err(e) = flush_to(kernel, location, &**db).await {
        tracing::error!("locations could not be written: {e}; they are tried again");
    }
}

async fn flush_to(kernel: &Arc<Kernel>, location: &Location, db: &dyn Store) -> Result<(), StoreError> {
    let mut deleted = std::mem::take(&mut *location.deleted.lock());
    while !deleted.is_empty() {
        let page = deleted.split_off(deleted.len().saturating_sub(PAGE));
        let queries = page.iter().map(|(name, id)| {
            let sql = location.columns.delete(name);
            Query::new(sql, vec![SqlValue::Int(*id as i64)])
        });
        if let Err(e) = db.batch(queries.collect()).await {
            location.deleted.lock().extend(deleted.into_iter().chain(page));
            return Err(e);
        }
    }
    for table in tables(location) {
        let sql = location.columns.upsert(&table.name);
        let mut page = Page::default();
        for part in 0..table.parts() {
            while page.take(kernel, location, &table, part, &sql) {
                if page.queries.len() >= PAGE {
                    page.write(&table, db).await?;
                }
                give_way().await;
            }
        }
        page.write(&table, db).await?;
    }
    Ok(())
}

/// Rows that are written at once.
const PAGE: usize = 1000;
/// Rows that are made while a part of the table is locked.
const SLICE: usize = 100;

/// Changed contacts on their way to the database.
#[derive(Default)]
struct Page {
    queries: Vec<Query>,
    marked: Vec<(Box<[u8]>, u64)>,
}

impl Page {
    /// Takes some changed contacts of a part; false when it has no more.
    fn take(
        &mut self,
        kernel: &Kernel,
        location: &Location,
        table: &Table,
        part: usize,
        sql: &Arc<str>,
    ) -> bool {
        let from = self.queries.len();
        table.visit_while(part, |aor, record| {
            for c in record.contacts.iter_mut().filter(|c| c.sync != Sync::Clean) {
                let row = store::row(kernel, aor, location.use_domain, c);
                self.queries.push(Query::new(sql.clone(), row));
                self.marked.push((aor.into(), c.id));
                c.sync = Sync::Clean;
            }
            self.queries.len() - from < SLICE
        });
        self.queries.len() > from
    }

    /// Writes them; what could not be written counts as changed again.
    async fn write(&mut self, table: &Table, db: &dyn Store) -> Result<(), StoreError> {
        if self.queries.is_empty() {
            return Ok(());
        }
        let written = db.batch(std::mem::take(&mut self.queries)).await;
        for (aor, id) in self.marked.drain(..).filter(|_| written.is_err()) {
            table.mend(&aor, |r| {
                for c in r.contacts.iter_mut().filter(|c| c.id == id) {
                    c.sync = Sync::Dirty;
                }
            });
        }
        written
    }
}

/// Let others have the thread for a moment.
async fn give_way() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
