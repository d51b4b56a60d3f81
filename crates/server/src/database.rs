//! `switchroom db` and `switchroom user`: tables and subscribers, without a running server.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use switchroom_data::sqlite::SqliteDriver;
use switchroom_data::text::TextDriver;
use switchroom_data::{mysql, postgres, schema};
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreDriver, StoreOptions};
use switchroom_wire::sip::digest::{Algorithm, ha1};

use crate::cli::{DbAction, DbArgs, UserAction, UserArgs};

/// The URL of the database in a data directory.
pub fn url_in(data_dir: &Path) -> String {
    let path = data_dir.join("switchroom.db");
    let absolute = std::path::absolute(&path).unwrap_or(path);
    format!("sqlite://{}", absolute.display())
}

/// The drivers of all kinds of database.
pub fn drivers() -> anyhow::Result<Vec<Arc<dyn StoreDriver>>> {
    Ok(vec![
        Arc::new(SqliteDriver::start().context("cannot start the SQLite driver")?),
        mysql::driver().context("cannot start the MySQL driver")?,
        postgres::driver().context("cannot start the PostgreSQL driver")?,
        Arc::new(TextDriver::start().context("cannot start the driver of text files")?),
    ])
}

/// An open database, with its driver.
struct Database {
    store: Arc<dyn Store>,
    _driver: Arc<dyn StoreDriver>,
}

fn open(url: &str, create: bool) -> anyhow::Result<Database> {
    let drivers = drivers()?;
    let scheme = url.split(':').next().unwrap_or_default();
    let Some(driver) = drivers.iter().find(|driver| driver.scheme() == scheme) else {
        bail!(
            "there is no driver for `{scheme}`; write sqlite:///path/to/file, mysql://user:password@host/database or \
             postgres://user:password@host/database"
        );
    };
    let mut options = StoreOptions::new();
    if create {
        options.insert("create".into(), vec!["1".into()]);
    }
    // The errors of the drivers name the place, without its password.
    let store =
        block_on(driver.open(url, &options)).with_context(|| format!("cannot open the {scheme} database"))?;
    Ok(Database { store, _driver: driver.clone() })
}

/// Create the file (of a database that is one) and the standard tables that are missing.
pub fn create(url: &str) -> anyhow::Result<Vec<&'static str>> {
    let db = open(url, true)?;
    Ok(block_on(schema::create_all(&*db.store))?)
}

/// `switchroom db`
pub fn db(args: &DbArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        DbAction::Init => {
            if let Some(dir) = args.url.strip_prefix("sqlite://").and_then(|p| Path::new(p).parent()) {
                std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            }
            match create(&args.url)?.as_slice() {
                [] => println!("all tables are there"),
                made => println!("created: {}", made.join(", ")),
            }
        }
        DbAction::Migrate => {
            let db = open(&args.url, false)?;
            match block_on(schema::migrate(&*db.store))?.as_slice() {
                [] => println!("nothing to do"),
                changes => changes.iter().for_each(|c| println!("{c}")),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `switchroom user`
pub fn user(args: &UserArgs) -> anyhow::Result<ExitCode> {
    let db = open(&args.url, false)?;
    match &args.action {
        UserAction::Add { user, password } => {
            let (name, domain) = split(user)?;
            let password = password_or_ask(password.as_deref())?;
            add(&*db.store, name, domain, &password)?;
            println!("added {user}");
        }
        UserAction::List => {
            let sql = "SELECT username, domain FROM subscriber ORDER BY domain, username";
            let rows = block_on(db.store.fetch(Query::new(sql, Vec::new())))?;
            for row in rows.rows {
                let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
                println!("{}@{}", text(0), text(1));
            }
        }
        UserAction::Passwd { user, password } => {
            let (name, domain) = split(user)?;
            let password = password_or_ask(password.as_deref())?;
            let sql = "UPDATE subscriber SET password = '', ha1 = ?, ha1_sha256 = ?, ha1_sha512t256 = ? \
                       WHERE username = ? AND domain = ?";
            let mut values = hashes(name, domain, &password);
            values.extend([name.into(), domain.into()]);
            changed_one(block_on(db.store.execute(Query::new(sql, values)))?, user)?;
            println!("changed the password of {user}");
        }
        UserAction::Remove { user } => {
            let (name, domain) = split(user)?;
            let sql = "DELETE FROM subscriber WHERE username = ? AND domain = ?";
            let query = Query::new(sql, vec![name.into(), domain.into()]);
            changed_one(block_on(db.store.execute(query))?, user)?;
            println!("removed {user}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Add a subscriber; only hashes are kept, never the password.
fn add(store: &dyn Store, name: &str, domain: &str, password: &str) -> anyhow::Result<()> {
    let sql = "SELECT id FROM subscriber WHERE username = ? AND domain = ?";
    let known = block_on(store.fetch(Query::new(sql, vec![name.into(), domain.into()])))?;
    if !known.rows.is_empty() {
        bail!("{name}@{domain} exists already; `switchroom user passwd` changes the password");
    }
    let sql = "INSERT INTO subscriber (username, domain, password, ha1, ha1_sha256, ha1_sha512t256) \
               VALUES (?, ?, '', ?, ?, ?)";
    let mut values: Vec<SqlValue> = vec![name.into(), domain.into()];
    values.extend(hashes(name, domain, password));
    block_on(store.execute(Query::new(sql, values)))?;
    Ok(())
}

/// Add subscribers to a database that exists, for the demo.
pub fn add_users(url: &str, users: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    let db = open(url, false)?;
    for (name, domain, password) in users {
        let sql = "DELETE FROM subscriber WHERE username = ? AND domain = ?";
        block_on(db.store.execute(Query::new(sql, vec![(*name).into(), (*domain).into()])))?;
        add(&*db.store, name, domain, password)?;
    }
    Ok(())
}

/// Rows of a query as text, for the demo.
pub fn rows(url: &str, sql: &str) -> anyhow::Result<(Vec<String>, Vec<Vec<String>>)> {
    let db = open(url, false)?;
    let found = block_on(db.store.fetch(Query::new(sql, Vec::new())))?;
    let text = |v: &SqlValue| v.to_text().unwrap_or_default();
    Ok((found.columns, found.rows.iter().map(|r| r.iter().map(text).collect()).collect()))
}

fn hashes(name: &str, domain: &str, password: &str) -> Vec<SqlValue> {
    [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
        .map(|a| SqlValue::from(ha1(a, name.as_bytes(), domain.as_bytes(), password.as_bytes()).as_bytes()))
        .to_vec()
}

fn split(user: &str) -> anyhow::Result<(&str, &str)> {
    match user.split_once('@') {
        Some((name, domain)) if !name.is_empty() && !domain.is_empty() => Ok((name, domain)),
        _ => bail!("\"{user}\" is not of the form user@domain"),
    }
}

fn password_or_ask(given: Option<&str>) -> anyhow::Result<String> {
    if let Some(p) = given {
        return Ok(p.to_owned());
    }
    eprint!("password: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        bail!("an empty password is not taken");
    }
    Ok(password)
}

fn changed_one(count: u64, user: &str) -> anyhow::Result<()> {
    if count == 0 {
        bail!("there is no subscriber {user}");
    }
    Ok(())
}
