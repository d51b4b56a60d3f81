//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

/// A telephone company in one binary.
#[derive(Parser)]
#[command(name = "switchroom", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server; without a script the built-in residential one
    Run(RunArgs),
    /// Check a script completely, without starting anything
    Check(CheckArgs),
    /// Run a management command on a running server
    Mi(MiArgs),
    /// Print what happened to a call on a running server, in order and with milliseconds
    Trace(TraceArgs),
    /// Create or migrate the tables of a database
    Db(DbArgs),
    /// Manage subscribers
    User(UserArgs),
    /// Write the built-in script to a file, to be edited
    Init(InitArgs),
    /// Start the server, register two built-in phones, and let them call each other
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions(CompletionArgs),
    /// Format scripts
    Fmt(FmtArgs),
    /// Run tests of a script: requests go in, the expected outcome is stated; no sockets, virtual time
    Test(TestArgs),
    /// Language server for editors, on standard input and output
    Lsp,
    /// Show each step of a script for one request, without sockets
    TraceScript(TraceScriptArgs),
    /// A test client for SMS centres, and an SMS centre simulator
    Smpp(crate::smpp::SmppArgs),
    /// The manual of a function, variable, parameter, event, command, statistic or module
    Doc(DocArgs),
}

/// `switchroom run`
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Script; `-` reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<String>,
    /// Listen on this socket instead of those of the script: [proto:]address[:port]; may be repeated
    #[arg(short = 'l', long = "listen", value_name = "SOCKET")]
    pub listen: Vec<String>,
    /// Workers; the default is one per core
    #[arg(short = 'n', long, value_name = "N")]
    pub workers: Option<usize>,
    /// A value for $argv(name); may be repeated
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    pub option: Vec<String>,
    /// Command that rewrites the script before it is read: standard input to standard output
    #[arg(short = 'p', long = "preprocessor", value_name = "COMMAND")]
    pub preprocessor: Option<String>,
    /// Where the built-in script keeps its database
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Log as JSON
    #[arg(long)]
    pub log_json: bool,
}

/// `switchroom check`
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Script; `-` reads standard input
    pub file: String,
    /// Command that rewrites the script before it is read
    #[arg(short = 'p', long = "preprocessor", value_name = "COMMAND")]
    pub preprocessor: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Rewrite older spellings in place, where that changes nothing else
    #[arg(long)]
    pub fix: bool,
}

/// `switchroom test`
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Files of tests
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `switchroom trace-script`
#[derive(Args, Clone, Debug)]
pub struct TraceScriptArgs {
    /// Script
    pub file: String,
    /// File with the request; the default is an INVITE from alice to bob
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Where the request comes from
    #[arg(long, default_value = "192.0.2.10:5060")]
    pub from: std::net::SocketAddr,
    /// A value for $argv(name); may be repeated
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    pub option: Vec<String>,
}

/// `switchroom fmt`
#[derive(Args, Clone, Debug)]
pub struct FmtArgs {
    /// Scripts to format in place; `-` formats standard input to standard output
    #[arg(required = true)]
    pub files: Vec<String>,
    /// Change nothing; fail when a file is not formatted
    #[arg(long)]
    pub check: bool,
}

/// `switchroom mi`
#[derive(Args, Clone, Debug)]
pub struct MiArgs {
    /// Address of the server's mi_http
    #[arg(long, default_value = "http://127.0.0.1:8888/mi")]
    pub url: String,
    /// Use this FIFO of mi_fifo instead
    #[arg(long)]
    pub fifo: Option<PathBuf>,
    /// Command, such as `usrloc:dump`; `which` lists them
    pub command: String,
    /// Arguments: by position, or name=value
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
}

/// `switchroom trace`
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Address of the server's mi_http
    #[arg(long, default_value = "http://127.0.0.1:8888/mi")]
    pub url: String,
    /// Use this FIFO of mi_fifo instead
    #[arg(long)]
    pub fifo: Option<PathBuf>,
    /// Call-ID of the call
    pub call_id: String,
}

/// `switchroom db`
#[derive(Args, Clone, Debug)]
pub struct DbArgs {
    /// What to do
    #[command(subcommand)]
    pub action: DbAction,
    /// Database
    #[arg(long, global = true, default_value = "sqlite://data/switchroom.db")]
    pub url: String,
}

/// What `switchroom db` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum DbAction {
    /// Create the standard tables that are missing
    Init,
    /// Bring existing tables to the versions this program knows
    Migrate,
}

/// `switchroom user`
#[derive(Args, Clone, Debug)]
pub struct UserArgs {
    /// What to do
    #[command(subcommand)]
    pub action: UserAction,
    /// Database
    #[arg(long, global = true, default_value = "sqlite://data/switchroom.db")]
    pub url: String,
}

/// What `switchroom user` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum UserAction {
    /// Add a subscriber: user@domain
    Add {
        /// user@domain
        user: String,
        /// Password; asked for on standard input when missing
        password: Option<String>,
    },
    /// List subscribers
    List,
    /// Change a password
    Passwd {
        /// user@domain
        user: String,
        /// Password; asked for on standard input when missing
        password: Option<String>,
    },
    /// Remove a subscriber
    Remove {
        /// user@domain
        user: String,
    },
}

/// `switchroom init`
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// File to write
    #[arg(default_value = "switchroom.cfg")]
    pub file: PathBuf,
    /// Where the script keeps its database
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
}

/// `switchroom demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End after the call instead of staying up for real phones
    #[arg(long)]
    pub exit: bool,
    /// Listen here instead of port 5060 of every address: [proto:]address[:port]
    #[arg(short = 'l', long = "listen", value_name = "SOCKET")]
    pub listen: Vec<String>,
    /// Where the database is kept; a temporary folder when missing
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `switchroom completions`
#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}

/// `switchroom doc`
#[derive(Args, Clone, Debug)]
pub struct DocArgs {
    /// Name: `t_relay`, `$ru`, `usrloc`, `usrloc.db_url`, `{s.len}`
    pub name: Option<String>,
    /// Print everything there is, one line each
    #[arg(long)]
    pub table: bool,
}

/// Print completions.
pub fn completions(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut Cli::command(), "switchroom", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }
}
