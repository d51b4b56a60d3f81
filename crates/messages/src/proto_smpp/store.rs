//! The table `smpp`: one row for each SMS centre, or for each application that we wait for.

use std::sync::Arc;

use switchroom_engine::smpp_session::Mode;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store, StoreError};

/// Columns by their standard names, in the order of [`read`].
pub(super) const COLUMNS: [&str; 11] = [
    "name",
    "ip",
    "port",
    "system_id",
    "password",
    "system_type",
    "src_ton",
    "src_npi",
    "dst_ton",
    "dst_npi",
    "session_type",
];

/// What kind of session a row asks for; the numbers are those of the column `session_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// We bind as transceiver.
    Transceiver = 1,
    /// We bind as transmitter.
    Transmitter = 2,
    /// We bind as receiver.
    Receiver = 3,
    /// We are the SMS centre: the peer binds, and may be asked to with `outbind`.
    Outbind = 4,
}

impl Kind {
    /// From the column; what nobody documented is a transceiver.
    fn read(n: i64) -> Kind {
        match n {
            2 => Kind::Transmitter,
            3 => Kind::Receiver,
            4 => Kind::Outbind,
            _ => Kind::Transceiver,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Transceiver => "transceiver",
            Kind::Transmitter => "transmitter",
            Kind::Receiver => "receiver",
            Kind::Outbind => "outbind",
        }
    }

    /// How we bind.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Kind::Transceiver => Mode::Transceiver,
            Kind::Transmitter => Mode::Transmitter,
            Kind::Receiver | Kind::Outbind => Mode::Receiver,
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name in scripts.
    pub name: String,
    /// Address or host name.
    pub host: String,
    /// TCP port; 0 waits for the peer to connect.
    pub port: u16,
    /// Who binds.
    pub system_id: String,
    /// With which password.
    pub password: String,
    /// What some providers want to read.
    pub system_type: String,
    /// Type of number of senders.
    pub src_ton: u8,
    /// Numbering plan of senders.
    pub src_npi: u8,
    /// Type of number of recipients.
    pub dst_ton: u8,
    /// Numbering plan of recipients.
    pub dst_npi: u8,
    /// Kind of session.
    pub kind: Kind,
}

/// The table with the names that the script gives it.
pub(super) struct Table {
    pub store: Arc<dyn Store>,
    pub name: String,
    /// Names of [`COLUMNS`].
    pub columns: [String; 11],
}

impl Table {
    /// All rows that can be used; others are named in the log.
    pub async fn load(&self) -> Result<Vec<Row>, StoreError> {
        let sql = format!("SELECT {} FROM {}", self.columns.join(", "), self.name);
        Ok(read(&self.store.fetch(Query::new(sql, Vec::new())).await?))
    }

    /// Writes one row in the place of the one with its name.
    pub async fn put(&self, row: &Row) -> Result<(), StoreError> {
        let marks = ["?"; COLUMNS.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", self.name, self.columns.join(", "));
        let int = |n: u8| SqlValue::Int(i64::from(n));
        let args = vec![
            SqlValue::from(row.name.as_str()),
            SqlValue::from(row.host.as_str()),
            SqlValue::Int(i64::from(row.port)),
            SqlValue::from(row.system_id.as_str()),
            SqlValue::from(row.password.as_str()),
            SqlValue::from(row.system_type.as_str()),
            int(row.src_ton),
            int(row.src_npi),
            int(row.dst_ton),
            int(row.dst_npi),
            int(row.kind as u8),
        ];
        self.store.batch(vec![self.delete(&row.name), Query::new(sql, args)]).await
    }

    /// Removes a row; the number of rows that were there.
    pub async fn remove(&self, name: &str) -> Result<u64, StoreError> {
        self.store.execute(self.delete(name)).await
    }

    fn delete(&self, name: &str) -> Query {
        let sql = format!("DELETE FROM {} WHERE {} = ?", self.name, self.columns[0]);
        Query::new(sql, vec![SqlValue::from(name)])
    }
}

fn read(rows: &Rows) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in &rows.rows {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        let int = |i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or(0);
        let octet = |i: usize| u8::try_from(int(i)).unwrap_or(0);
        let name = text(0).trim().to_owned();
        let Ok(port) = u16::try_from(int(2)) else {
            tracing::error!("proto_smpp: {name}: {} is no port; the row is left out", int(2));
            continue;
        };
        if name.is_empty() || all.iter().any(|r| r.name == name) {
            tracing::error!("proto_smpp: a row has no name, or \"{name}\" is there twice; it is left out");
            continue;
        }
        if !(1..=4).contains(&int(10)) {
            tracing::error!(
                "proto_smpp: {name}: session_type {} is none of 1 transceiver, 2 transmitter, 3 receiver, \
                 4 outbind; it binds as transceiver",
                int(10)
            );
        }
        all.push(Row {
            name,
            host: text(1).trim().trim_matches(['[', ']']).to_owned(),
            port,
            system_id: text(3),
            password: text(4),
            system_type: text(5),
            src_ton: octet(6),
            src_npi: octet(7),
            dst_ton: octet(8),
            dst_npi: octet(9),
            kind: Kind::read(int(10)),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_the_documented_session_types() {
        let row = |name: &str, port: i64, kind: i64| {
            let mut row: Vec<SqlValue> = vec![name.into(), "127.0.0.1".into(), port.into()];
            row.extend(["smpp", "test", ""].map(SqlValue::from));
            row.extend([2, 1, 2, 1, kind].map(SqlValue::Int));
            row
        };
        let rows =
            vec![row("a", 2775, 1), row("b", 1, 2), row("c", 1, 3), row("d", 0, 4), row("e", 70_000, 1)];
        let read = read(&Rows { columns: Vec::new(), rows: [rows, vec![row("a", 5, 1)]].concat() });
        let kinds: Vec<_> = read.iter().map(|r| (r.name.as_str(), r.kind)).collect();
        let expected =
            [("a", Kind::Transceiver), ("b", Kind::Transmitter), ("c", Kind::Receiver), ("d", Kind::Outbind)];
        assert_eq!(kinds, expected);
        assert_eq!((read[0].port, read[0].src_ton, read[0].dst_npi), (2775, 2, 1));
    }
}
