//! Parts of long messages that wait for the others, in the table `smpp_part`: a part is answered when it is stored, and stays
//! until its message has arrived or never will. What waits when the process ends waits again after it started.

use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};
use switchroom_wire::smpp::{ShortMessage, Tlvs};

use crate::link::join::{Key, Piece};

/// Parts read at start, for all connections.
const MOST: i64 = 100_000;

/// A part as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Connection that it came by.
    pub connection: String,
    source: Vec<u8>,
    destination: Vec<u8>,
    has_udh: bool,
    data_coding: u8,
    payload: Vec<u8>,
    tlvs: Vec<u8>,
}

impl Part {
    /// As the joiner takes it.
    pub fn piece(&self) -> Piece<'_> {
        Piece {
            source: &self.source,
            destination: &self.destination,
            has_udh: self.has_udh,
            data_coding: self.data_coding,
            payload: &self.payload,
            tlvs: Tlvs::read(&self.tlvs, false).unwrap_or_default(),
        }
    }
}

/// Stores a part, in the place of an older one with the same number. `now` in unix seconds.
pub(super) fn keep(connection: &str, key: &Key, part: u8, m: &ShortMessage<'_>, now: i64) -> Vec<Query> {
    let mut content = vec![u8::from(m.has_udh()), m.data_coding];
    let payload = m.payload();
    for field in [&key.source[..], &key.destination, payload, m.tlvs.as_bytes()] {
        // A payload has 65,535 octets at most, and the parameters that carry it a few more.
        content.extend_from_slice(&(field.len() as u32).to_be_bytes());
        content.extend_from_slice(field);
    }
    let mut same = of(connection, key);
    same.push(i64::from(part).into());
    let mut row = same.clone();
    row.extend([now.into(), SqlValue::Blob(content)]);
    let delete = "DELETE FROM smpp_part WHERE connection = ? AND source = ? AND destination = ? AND reference = ? AND total = ? AND wide = ? AND part = ?";
    let insert = "INSERT INTO smpp_part (connection, source, destination, reference, total, wide, part, moment, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    vec![Query::new(delete, same), Query::new(insert, row)]
}

/// Forgets the parts of a message.
pub(super) fn forget(connection: &str, key: &Key) -> Query {
    let sql = "DELETE FROM smpp_part WHERE connection = ? AND source = ? AND destination = ? AND reference = ? AND total = ? AND wide = ?";
    Query::new(sql, of(connection, key))
}

fn of(connection: &str, key: &Key) -> Vec<SqlValue> {
    let text = |octets: &[u8]| octets.iter().take(64).map(|b| char::from(*b)).collect::<String>();
    vec![
        connection.into(),
        text(&key.source).into(),
        text(&key.destination).into(),
        i64::from(key.reference).into(),
        i64::from(key.total).into(),
        i64::from(key.wide).into(),
    ]
}

/// What waited when the process ended, in the order in which it came.
pub(super) async fn waiting(store: &dyn Store) -> Result<Vec<Part>, StoreError> {
    let sql = "SELECT connection, content FROM smpp_part ORDER BY id LIMIT ?";
    let rows = store.fetch(Query::new(sql, vec![MOST.into()])).await?;
    let read = |row: &Vec<SqlValue>| {
        let connection = row.first().and_then(SqlValue::to_text)?.trim_end().to_owned();
        match row.get(1) {
            Some(SqlValue::Blob(content)) => read(connection, content),
            _ => None,
        }
    };
    Ok(rows.rows.iter().filter_map(read).collect())
}

fn read(connection: String, content: &[u8]) -> Option<Part> {
    let (&[has_udh, data_coding], mut rest) = content.split_first_chunk::<2>()?;
    let mut field = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = after;
        Some(value.to_vec())
    };
    let (source, destination, payload, tlvs) = (field()?, field()?, field()?, field()?);
    Some(Part { connection, source, destination, has_udh: has_udh != 0, data_coding, payload, tlvs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_wire::smpp::Address;

    #[test]
    fn a_part_that_was_stored_is_read_and_broken_ones_are_not() {
        let address = |addr| Address { ton: 1, npi: 1, addr };
        let m = ShortMessage {
            source: address(b"Caf\xe9"),
            destination: address(b"4930"),
            esm_class: 0x40,
            data_coding: 8,
            text: &[5, 0, 3, 9, 2, 1, 0, 65],
            ..ShortMessage::default()
        };
        let (key, part) = Key::of(&Piece::from(&m)).unwrap();
        let queries = keep("up", &key, part, &m, 7);
        let Some(SqlValue::Blob(content)) = queries[1].args.last() else { panic!() };
        let read_back = read("up".into(), content).unwrap();
        assert_eq!(Key::of(&read_back.piece()), Some((key, part)));
        assert_eq!((read_back.data_coding, read_back.payload.len()), (8, 8));
        for n in 0..content.len() {
            assert_eq!(read("up".into(), &content[..n]), None);
        }
    }
}
