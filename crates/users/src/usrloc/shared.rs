//! Contacts wherever they are: in memory, or in a database that other servers change as well (`sql-only`).
//!
//! There every look at an address of record reads its rows, and every change reads, changes and writes them; nothing is
//! kept in memory. A row that another server has renewed is not swept away.

use std::sync::Arc;

use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Ctx, Flow, wait};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{Query, StoreError};

use super::api::{self, Changed};
use super::contact::{Contact, Field, PUSH};
use super::events::Change;
use super::table::{Contacts, Table, order};
use super::{Location, store};

/// So many expired rows are read at a time.
const SWEEP: usize = 1000;

/// Look at the contacts of an address of record, then go on with what was found. In memory mode nothing waits, and
/// `select` runs under a lock: it must only look.
pub fn read<T: 'static>(
    ctx: &mut Ctx,
    table: &Arc<Table>,
    aor: &[u8],
    select: impl FnOnce(&[Contact]) -> T + 'static,
    then: impl FnOnce(&mut Ctx, Result<T, StoreError>) -> Flow + 'static,
) -> Flow {
    let kernel = ctx.shard.kernel.clone();
    match rows_of(&kernel, table, aor) {
        None => {
            let found = table.read(aor, |r| select(r.map_or(&[], |r| &r.contacts[..])));
            then(ctx, Ok(found))
        }
        Some(rows) => wait(rows, move |ctx, rows| then(ctx, rows.map(|c| select(&c)))),
    }
}

/// Change the contacts of an address of record, then go on with what came of it; see [`api::change`].
pub fn change<T: 'static>(
    ctx: &mut Ctx,
    table: &Arc<Table>,
    aor: &[u8],
    work: impl FnOnce(&mut Contacts) -> T + 'static,
    then: impl FnOnce(&mut Ctx, Result<Changed<T>, StoreError>) -> Flow + 'static,
) -> Flow {
    let kernel = ctx.shard.kernel.clone();
    match rows_of(&kernel, table, aor) {
        None => {
            let changed = api::change(&kernel, Some(ctx.shard.worker), table, aor, work);
            then(ctx, Ok(changed))
        }
        Some(rows) => {
            let (table, aor): (Arc<Table>, Box<[u8]>) = (table.clone(), aor.into());
            wait(rows, move |ctx, rows| {
                let shard = ctx.shard.clone();
                let changed = rows.map(|mut contacts| {
                    let done = api::changing(&shard.kernel, &table, &aor, &mut contacts, work);
                    done.tell(&shard.kernel, Some(shard.worker), &table, &aor)
                });
                then(ctx, changed)
            })
        }
    }
}

/// The contacts of an address of record, for those who are not on a worker.
pub async fn contacts(kernel: &Arc<Kernel>, table: &Table, aor: &[u8]) -> Result<Contacts, StoreError> {
    match rows_of(kernel, table, aor) {
        None => Ok(table.read(aor, |r| r.map(|r| r.contacts.clone()).unwrap_or_default())),
        Some(rows) => rows.await,
    }
}

/// Change the contacts of an address of record and make the database follow, for those who are not on a worker.
pub async fn change_now<T>(
    kernel: &Arc<Kernel>,
    table: &Table,
    aor: &[u8],
    work: impl FnOnce(&mut Contacts) -> T,
) -> Result<T, StoreError> {
    let changed = match rows_of(kernel, table, aor) {
        None => api::change(kernel, None, table, aor, work),
        Some(rows) => {
            let mut contacts = rows.await?;
            api::changing(kernel, table, aor, &mut contacts, work).tell(kernel, None, table, aor)
        }
    };
    api::write(kernel, changed.queries).await?;
    Ok(changed.value)
}

/// Addresses of record that have a contact whose URI or source names this text (an IP address). For a shared database;
/// `None` when memory has the contacts.
pub fn aors_at(
    kernel: &Arc<Kernel>,
    table: &Table,
    address: &str,
) -> Option<BoxFuture<Result<Vec<Vec<u8>>, StoreError>>> {
    let location = kernel.state::<Location>();
    let query = location.columns.of_address(&table.name, address, kernel.unix());
    let rows = fetch(kernel, query)?;
    Some(Box::pin(async move {
        let mut aors: Vec<Vec<u8>> = rows.await?.into_iter().map(|(aor, _)| aor).collect();
        aors.sort_unstable();
        aors.dedup();
        Ok(aors)
    }))
}

/// All contacts of a shared database with their addresses of record; `None` when memory has them.
pub fn all(kernel: &Arc<Kernel>, table: &Table) -> Option<Rows> {
    let location = kernel.state::<Location>();
    fetch(kernel, Query::new(location.columns.select(&table.name), Vec::new()))
}

/// The next `limit` contacts of a shared database after the key `after`, ordered by key. Those that other servers have on a
/// socket of theirs are left out.
pub fn page(kernel: &Arc<Kernel>, table: &Table, after: u64, limit: usize) -> Option<Rows> {
    let location = kernel.state::<Location>();
    let sockets: Vec<String> = kernel.sockets().iter().map(|s| s.name()).collect();
    fetch(kernel, location.columns.page(&table.name, after, &sockets, kernel.unix(), limit))
}

/// Contacts on their way, with their addresses of record.
pub type Rows = BoxFuture<Result<Vec<(Vec<u8>, Contact)>, StoreError>>;

/// Note the contacts of this server that are woken by push, as a load of the table does where memory has them.
pub(super) async fn note_sleepers(kernel: &Arc<Kernel>) {
    let location = kernel.state::<Location>();
    for table in api::tables(location) {
        let mut after = 0;
        while let Some(rows) = page(kernel, &table, after, SWEEP) {
            let rows = match rows.await {
                Ok(rows) => rows,
                Err(e) => {
                    tracing::error!("push contacts of \"{}\" could not be read: {e}", table.name);
                    return;
                }
            };
            for (aor, c) in rows.iter().filter(|(_, c)| c.flags & PUSH != 0) {
                location.sleepers.note(c.id, &table, aor, c.expires);
            }
            match rows.last().filter(|_| rows.len() == SWEEP) {
                Some((_, last)) => after = last.id,
                None => break,
            }
        }
    }
}

/// Delete the rows whose time is over, and tell of each that was really deleted here.
pub(super) async fn sweep(kernel: &Arc<Kernel>) {
    let location = kernel.state::<Location>();
    let Some(db) = &location.store else { return };
    for table in api::tables(location) {
        loop {
            let query = location.columns.expired(&table.name, kernel.unix(), SWEEP);
            let Some(rows) = fetch(kernel, query) else { return };
            let rows = match rows.await {
                Ok(rows) => rows,
                Err(e) => {
                    tracing::error!("expired contacts of \"{}\" could not be read: {e}", table.name);
                    return;
                }
            };
            let (count, mut deleted) = (rows.len(), 0);
            for (aor, contact) in rows {
                match db.execute(location.columns.delete_expired(&table.name, &contact)).await {
                    // Another server was faster, or the phone has come back.
                    Ok(0) => continue,
                    Ok(_) => deleted += 1,
                    Err(e) => {
                        tracing::error!("expired contacts of \"{}\" could not be deleted: {e}", table.name);
                        return;
                    }
                }
                location.events.contact(kernel, None, Change::Delete, &table.name, &aor, &contact);
                if location.events.went_heard(kernel)
                    && contacts(kernel, &table, &aor).await.is_ok_and(|left| left.is_empty())
                {
                    location.events.aor(kernel, None, false, &table.name, &aor);
                }
            }
            if count < SWEEP || deleted == 0 {
                break;
            }
        }
    }
}

/// The rows of an address of record on their way; `None` when memory has its contacts.
fn rows_of(
    kernel: &Arc<Kernel>,
    table: &Table,
    aor: &[u8],
) -> Option<BoxFuture<Result<Contacts, StoreError>>> {
    let location = kernel.state::<Location>();
    if !location.is_shared() {
        return None;
    }
    let query = location.columns.of_aor(&table.name, aor, location.use_domain, kernel.unix());
    let rows = fetch(kernel, query)?;
    let (aor, newest_first): (Box<[u8]>, bool) = (aor.into(), location.newest_first);
    let by_call = location.matching_mode == 1;
    Some(Box::pin(async move {
        // Some databases compare without case; the user part of an address of record does not.
        let same = |found: &[u8]| found == &aor[..] || same_but_domain(found, &aor);
        let rows = rows.await?.into_iter().filter(|(found, _)| same(found));
        let mut contacts: Contacts = rows.map(|(_, c)| c).collect();
        drop_twins(&mut contacts, by_call);
        order(&mut contacts, newest_first);
        Ok(contacts)
    }))
}

/// Two servers that took the same contact at the same time have made two rows of it: the newer one counts, the other ends by
/// itself.
fn drop_twins(contacts: &mut Contacts, by_call: bool) {
    contacts.sort_by_key(|c| std::cmp::Reverse((c.modified, c.cseq, c.id)));
    let mut at = 1;
    while at < contacts.len() {
        let (newer, rest) = contacts.split_at(at);
        let same = |c: &Contact| {
            c.uri() == rest[0].uri() && (!by_call || c.text(Field::CallId) == rest[0].text(Field::CallId))
        };
        if newer.iter().any(same) {
            contacts.remove(at);
        } else {
            at += 1;
        }
    }
}

fn same_but_domain(a: &[u8], b: &[u8]) -> bool {
    let at = |t: &[u8]| t.iter().rposition(|b| *b == b'@').unwrap_or(t.len());
    let (x, y) = (at(a), at(b));
    a[..x] == b[..y] && a[x..].eq_ignore_ascii_case(&b[y..])
}

fn fetch(kernel: &Arc<Kernel>, query: Query) -> Option<Rows> {
    let location = kernel.state::<Location>();
    let db = location.store.as_ref().filter(|_| location.is_shared())?;
    let rows = db.fetch(query);
    let kernel = kernel.clone();
    Some(Box::pin(async move {
        let rows = rows.await?;
        let location = kernel.state::<Location>();
        let (mut rows, _) = store::read_rows(&kernel, location.use_domain, rows);
        location.seen.fill(rows.iter_mut().map(|(_, c)| c));
        Ok(rows)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usrloc::contact::Texts;

    #[test]
    fn of_two_rows_of_one_contact_the_newer_counts() {
        let make = |uri: &str, call: &str, modified| {
            let texts = Texts { uri: uri.as_bytes(), call_id: call.as_bytes(), ..Texts::default() };
            let mut c = Contact::new(&texts);
            c.modified = modified;
            c
        };
        let all = || -> Contacts {
            [make("sip:a", "1", 5), make("sip:b", "1", 6), make("sip:a", "2", 7), make("sip:a", "1", 8)]
                .into_iter()
                .collect()
        };
        let left = |by_call| {
            let mut contacts = all();
            drop_twins(&mut contacts, by_call);
            contacts.iter().map(|c| c.modified).collect::<Vec<_>>()
        };
        assert_eq!(left(false), [8, 6]);
        assert_eq!(left(true), [8, 7, 6]);
    }

    #[test]
    fn the_domain_of_an_address_of_record_has_no_case_and_the_user_has() {
        assert!(same_but_domain(b"Bob@A.org", b"Bob@a.ORG"));
        assert!(!same_but_domain(b"bob@a.org", b"Bob@a.org"));
        assert!(same_but_domain(b"bob", b"bob") && !same_but_domain(b"bob", b"bob@a"));
    }
}
