//! MySQL and MariaDB behind the store port.
//!
//! Statements with arguments are prepared and kept prepared; those without go as text, so that a script may send what
//! cannot be prepared. Times are those of the server's own time zone, as another client of it would see them.

pub mod module;
mod row;

use std::io;
use std::path::Path;
use std::sync::Arc;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use switchroom_kernel::ports::store::{Dialect, Query, Rows, StoreDriver, StoreError, StoreOptions};

use crate::server::{Executed, Link, ServerDriver, Url, first_word};

/// Starts the driver for `mysql:` URLs. It must outlive the stores that it opens.
pub fn driver() -> io::Result<Arc<dyn StoreDriver>> {
    Ok(Arc::new(ServerDriver::<MySqlConnection>::start()?))
}

/// Where clients look for a server on this machine, as the client library does for the host `localhost`.
const SOCKETS: [&str; 3] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

impl Link for MySqlConnection {
    const DIALECT: Dialect = Dialect::Mysql;
    const SCHEME: &'static str = "mysql";
    type Target = MySqlConnectOptions;

    fn target(url: &Url, options: &mut StoreOptions) -> Result<MySqlConnectOptions, StoreError> {
        let tls = options.remove("use_tls").is_some_and(|v| v.last().is_some_and(|v| v != "0"));
        let mut target = MySqlConnectOptions::new()
            .host(if url.host.is_empty() { "localhost" } else { &url.host })
            .port(url.port.unwrap_or(3306))
            .database(&url.database)
            .username(url.user.as_deref().unwrap_or("root"))
            .ssl_mode(if tls { MySqlSslMode::Required } else { MySqlSslMode::Disabled })
            .pipes_as_concat(false)
            .timezone(None)
            .disable_statement_logging();
        if let Some(password) = &url.password {
            target = target.password(password);
        }
        let local = url.host.is_empty() || url.host == "localhost";
        let mut socket =
            SOCKETS.iter().find(|s| local && url.port.is_none() && Path::new(s).exists()).copied();
        for (name, value) in &url.params {
            match name.as_str() {
                "unix_socket" | "socket" => socket = Some(value),
                "ssl_ca" => target = target.ssl_mode(MySqlSslMode::VerifyCa).ssl_ca(value),
                "ssl_cert" => target = target.ssl_client_cert(value),
                "ssl_key" => target = target.ssl_client_key(value),
                other => {
                    return Err(StoreError::Url(format!(
                        "`{}`: parameter `{other}` is unknown; there are unix_socket, ssl_ca, ssl_cert, ssl_key",
                        url.shown()
                    )));
                }
            }
        }
        Ok(match socket {
            Some(socket) => target.socket(socket),
            None => target,
        })
    }

    async fn connect(target: &MySqlConnectOptions) -> Result<Self, StoreError> {
        target.connect().await.map_err(|e| row::error(&e))
    }

    async fn fetch(&mut self, query: &Query) -> Result<Rows, StoreError> {
        let found = if query.args.is_empty() {
            sqlx::raw_sql(AssertSqlSafe(query.sql.clone())).fetch_all(self).await
        } else {
            row::bind(query).fetch_all(self).await
        };
        row::rows(&found.map_err(|e| row::error(&e))?, query.args.is_empty())
    }

    async fn execute(&mut self, query: &Query) -> Result<u64, StoreError> {
        let done = if query.args.is_empty() {
            sqlx::raw_sql(AssertSqlSafe(query.sql.clone())).execute(self).await
        } else {
            row::bind(query).execute(self).await
        };
        done.map(|done| done.rows_affected()).map_err(|e| row::error(&e))
    }

    async fn batch(&mut self, queries: &[Query]) -> Result<(), StoreError> {
        self.word("BEGIN").await?;
        for query in queries {
            if let Err(e) = Link::execute(self, query).await {
                // The connection is closed when even that fails, which ends the transaction too.
                self.word("ROLLBACK").await?;
                return Err(e);
            }
        }
        self.word("COMMIT").await
    }

    async fn group(&mut self, queries: &[Query]) -> Result<Vec<Executed>, StoreError> {
        self.word("BEGIN").await?;
        let mut done = Vec::with_capacity(queries.len());
        for query in queries {
            match Link::execute(self, query).await {
                // The server has undone the whole transaction, or it may have.
                Err(e @ (StoreError::Unreachable(_) | StoreError::Busy(_))) => {
                    self.word("ROLLBACK").await?;
                    return Err(e);
                }
                // A statement that fails leaves the others as they are.
                executed => done.push(executed),
            }
        }
        self.word("COMMIT").await?;
        Ok(done)
    }

    fn may_share(query: &Query) -> bool {
        matches!(first_word(&query.sql).as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLACE")
    }

    async fn close(self) {
        // The server notices by itself otherwise.
        let _ = Connection::close(self).await;
    }
}

/// Statements without arguments and answer.
trait Words {
    async fn word(&mut self, word: &'static str) -> Result<(), StoreError>;
}

impl Words for MySqlConnection {
    async fn word(&mut self, word: &'static str) -> Result<(), StoreError> {
        Executor::execute(&mut *self, sqlx::raw_sql(word)).await.map(drop).map_err(|e| row::error(&e))
    }
}
