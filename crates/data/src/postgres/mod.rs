//! PostgreSQL behind the store port.
//!
//! Statements go as text with their values as quoted literals, whose types the server finds out from where they stand, as
//! it does for OpenSIPS: a column of any type may be compared with text. It also lets many statements share one round
//! trip and one commit. Times are UTC.

pub mod module;
mod render;
mod row;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgQueryResult, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use switchroom_kernel::ports::store::{Dialect, Query, Rows, StoreDriver, StoreError, StoreOptions};

use crate::server::{Executed, Link, ServerDriver, Url, first_word};
use render::{Replace, render};

/// Starts the driver for `postgres:` URLs. It must outlive the stores that it opens.
pub fn driver() -> io::Result<Arc<dyn StoreDriver>> {
    Ok(Arc::new(ServerDriver::<PgLink>::start()?))
}

/// Tables whose unique keys are remembered.
const KEYS: usize = 256;

/// A connection, and what it has learned about tables.
struct PgLink {
    connection: PgConnection,
    /// Columns of each unique key of a table, the primary key first.
    keys: HashMap<String, Vec<Vec<String>>>,
}

impl Link for PgLink {
    const DIALECT: Dialect = Dialect::Postgres;
    const SCHEME: &'static str = "postgres";
    type Target = PgConnectOptions;

    fn target(url: &Url, options: &mut StoreOptions) -> Result<PgConnectOptions, StoreError> {
        let tls = options.remove("use_tls").is_some_and(|v| v.last().is_some_and(|v| v != "0"));
        let mut target = PgConnectOptions::new_without_pgpass()
            .host(if url.host.is_empty() { "localhost" } else { &url.host })
            .port(url.port.unwrap_or(5432))
            .database(&url.database)
            .application_name("switchroom")
            .ssl_mode(if tls { PgSslMode::Require } else { PgSslMode::Disable })
            .disable_statement_logging();
        if let Some(user) = &url.user {
            target = target.username(user);
        }
        if let Some(password) = &url.password {
            target = target.password(password);
        }
        if url.host.is_empty() {
            target = target.socket("/var/run/postgresql");
        }
        for (name, value) in &url.params {
            target = match name.as_str() {
                "host" | "unix_socket" | "socket" => target.socket(value),
                "sslrootcert" => target.ssl_mode(PgSslMode::VerifyCa).ssl_root_cert(value),
                "sslcert" => target.ssl_client_cert(value),
                "sslkey" => target.ssl_client_key(value),
                other => {
                    return Err(StoreError::Url(format!(
                        "`{}`: parameter `{other}` is unknown; there are host, sslrootcert, sslcert, sslkey",
                        url.shown()
                    )));
                }
            };
        }
        Ok(target)
    }

    async fn connect(target: &PgConnectOptions) -> Result<Self, StoreError> {
        let connection = target.connect().await.map_err(|e| row::error(&e))?;
        let mut link = PgLink { connection, keys: HashMap::new() };
        // Literals are written for it; a server may have been set up otherwise.
        link.send("SET standard_conforming_strings = on".to_owned()).await?;
        Ok(link)
    }

    async fn fetch(&mut self, query: &Query) -> Result<Rows, StoreError> {
        let mut sql = String::new();
        render(&query.sql, &query.args, &mut sql)?;
        let found = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        row::rows(&found.map_err(|e| row::error(&e))?)
    }

    async fn execute(&mut self, query: &Query) -> Result<u64, StoreError> {
        let mut sql = String::new();
        self.write(query, &mut sql).await?;
        Ok(self.send(sql).await?.iter().sum())
    }

    async fn batch(&mut self, queries: &[Query]) -> Result<(), StoreError> {
        self.together(queries).await.map(drop)
    }

    async fn group(&mut self, queries: &[Query]) -> Result<Vec<Executed>, StoreError> {
        let counts = self.together(queries).await?;
        if counts.len() != queries.len() {
            // A rule of the database added answers; which count belongs to whom cannot be told.
            return Ok(vec![Ok(0); queries.len()]);
        }
        Ok(counts.into_iter().map(Ok).collect())
    }

    fn may_share(query: &Query) -> bool {
        let simple = matches!(first_word(&query.sql).as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLACE");
        simple && !render::is_several(&query.sql)
    }

    async fn close(self) {
        // The server notices by itself otherwise.
        let _ = self.connection.close().await;
    }
}

impl PgLink {
    /// Statements sent at once are one transaction.
    async fn together(&mut self, queries: &[Query]) -> Result<Vec<u64>, StoreError> {
        let mut sql = String::new();
        for query in queries {
            self.write(query, &mut sql).await?;
            sql.push_str(";\n");
        }
        self.send(sql).await
    }

    /// Renders a statement, `REPLACE` in the way this server has for it.
    async fn write(&mut self, query: &Query, sql: &mut String) -> Result<(), StoreError> {
        let Some(replace) = Replace::read(&query.sql) else {
            return render(&query.sql, &query.args, sql);
        };
        let keys = self.keys(replace.table).await?;
        let rewritten = replace.rewrite(&keys);
        render(&rewritten, &query.args, sql)
    }

    async fn keys(&mut self, table: &str) -> Result<Vec<Vec<String>>, StoreError> {
        if let Some(keys) = self.keys.get(table) {
            return Ok(keys.clone());
        }
        let sql = "SELECT i.indexrelid::text, a.attname::text FROM pg_index i \
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
                   WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
                   AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid, a.attnum";
        let rows = self.fetch(&Query::new(sql, vec![table.into()])).await?;
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for row in rows.rows {
            let text = |i: usize| row.get(i).and_then(|v| v.to_text()).unwrap_or_default();
            match keys.last_mut() {
                Some((index, columns)) if *index == text(0) => columns.push(text(1)),
                _ => keys.push((text(0), vec![text(1)])),
            }
        }
        let keys: Vec<Vec<String>> = keys.into_iter().map(|(_, columns)| columns).collect();
        if self.keys.len() < KEYS {
            self.keys.insert(table.to_owned(), keys.clone());
        }
        Ok(keys)
    }

    /// Sends text; gives the rows touched by each statement in it.
    async fn send(&mut self, sql: String) -> Result<Vec<u64>, StoreError> {
        let answers = sqlx::raw_sql(AssertSqlSafe(sql)).execute_many(&mut self.connection);
        let counts = answers.map_ok(|done: PgQueryResult| done.rows_affected());
        counts.try_collect().await.map_err(|e| row::error(&e))
    }
}
