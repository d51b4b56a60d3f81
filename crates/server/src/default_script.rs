//! The built-in residential script and its database.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::InitArgs;
use crate::database;

const SCRIPT: &str = include_str!("default.cfg");

/// Where management listens unless told otherwise.
pub const MI_PORT: u16 = 8888;

/// The script for a data directory; the directory and the tables are made when missing.
pub fn prepare(data_dir: &Path) -> anyhow::Result<String> {
    prepare_with(data_dir, MI_PORT)
}

/// The same with another port for management.
pub fn prepare_with(data_dir: &Path, mi_port: u16) -> anyhow::Result<String> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let url = database::url_in(data_dir);
    database::create(&url)?;
    Ok(script(&url, mi_port))
}

fn script(url: &str, mi_port: u16) -> String {
    SCRIPT.replace("@DB@", url).replace("@MI_PORT@", &mi_port.to_string())
}

/// What to do next, for who started the server without a script.
pub fn what_next(data_dir: &Path) -> String {
    let url = database::url_in(data_dir);
    format!(
        "no script given: the built-in one is in use, with the database {url}\n\
         next:  switchroom user add alice@<this address> <password> --url {url}\n\
         then let a phone register as alice; `switchroom init` writes the script to edit"
    )
}

/// `switchroom init`: the script as a file.
pub fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    if args.file.exists() && !args.force {
        bail!("{} exists already; --force overwrites it", args.file.display());
    }
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("cannot make {}", args.data_dir.display()))?;
    let url = database::url_in(&args.data_dir);
    database::create(&url)?;
    std::fs::write(&args.file, script(&url, MI_PORT))
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    println!("wrote {} (database {url})", args.file.display());
    println!("start it:  switchroom run -f {}", args.file.display());
    Ok(ExitCode::SUCCESS)
}
