//! `switchroom smpp`: a test client for SMS centres, and an SMS centre for those who write clients.

mod client;
mod sim;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::stream::Streams;
use switchroom_messages::link::compose::Ties;
use switchroom_net::dns::{DnsConfig, resolver};
use switchroom_net::streams;
use switchroom_net::timers::Control;
use switchroom_wire::gsm::Alphabet;

/// `switchroom smpp`
#[derive(Args, Clone, Debug)]
pub struct SmppArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Bind, say what the SMS centre answers, and unbind
    Bind(BindArgs),
    /// Send a text, and print the ids it got
    Send(SendArgs),
    /// Print what is delivered, and accept it
    Listen(ListenArgs),
    /// Send many messages and measure
    Bench(BenchArgs),
    /// Be an SMS centre, with delays, errors and receipts
    Sim(SimArgs),
}

#[derive(Args, Clone, Debug)]
struct BindArgs {
    #[command(flatten)]
    peer: Peer,
    /// Bind so many times at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    sessions: usize,
    /// Stay bound for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    hold: u64,
}

/// Where to bind, and as whom.
#[derive(Args, Clone, Debug)]
struct Peer {
    /// SMS centre: host:port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2775")]
    to: String,
    /// Who binds
    #[arg(short = 's', long, default_value = "smpp")]
    system_id: String,
    /// Its password
    #[arg(short = 'p', long, default_value = "test")]
    password: String,
    /// System type
    #[arg(long, default_value = "")]
    system_type: String,
    /// How to bind
    #[arg(short = 'm', long, value_enum, default_value_t = Mode::Trx)]
    mode: Mode,
    /// TLS, with any certificate
    #[arg(long)]
    tls: bool,
    /// Version of SMPP
    #[arg(long, value_enum, default_value_t = Version::V34)]
    smpp: Version,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Trx,
    Tx,
    Rx,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    #[value(name = "3.3")]
    V33,
    #[value(name = "3.4")]
    V34,
    #[value(name = "5.0")]
    V50,
}

#[derive(Args, Clone, Debug)]
struct SendArgs {
    #[command(flatten)]
    peer: Peer,
    #[command(flatten)]
    message: Message,
    /// Ask for a delivery receipt, and wait for it so many seconds
    #[arg(long, value_name = "SECONDS")]
    receipt: Option<u64>,
    /// The text
    text: String,
}

/// What a message is like.
#[derive(Args, Clone, Debug)]
struct Message {
    /// Sender
    #[arg(long, default_value = "12345")]
    from: String,
    /// Recipient
    #[arg(long, default_value = "491510000000")]
    dest: String,
    /// What `data_coding` 0 means to the SMS centre
    #[arg(long, value_enum, default_value_t = Coding::Gsm7)]
    alphabet: Coding,
    /// How the parts of long texts are tied together
    #[arg(long, value_enum, default_value_t = Parts::Udh8)]
    parts: Parts,
    /// Show it at once and do not store it
    #[arg(long)]
    flash: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Coding {
    Gsm7,
    Gsm7Packed,
    Latin1,
    Ascii,
    Ucs2,
    Utf8,
}

impl Coding {
    fn alphabet(self) -> Alphabet {
        match self {
            Coding::Gsm7 => Alphabet::Gsm7,
            Coding::Gsm7Packed => Alphabet::Gsm7Packed,
            Coding::Latin1 => Alphabet::Latin1,
            Coding::Ascii => Alphabet::Ascii,
            Coding::Ucs2 => Alphabet::Ucs2,
            Coding::Utf8 => Alphabet::Utf8,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Parts {
    Udh8,
    Udh16,
    Sar,
    Payload,
}

impl Parts {
    fn ties(self) -> Ties {
        match self {
            Parts::Udh8 => Ties::Udh8,
            Parts::Udh16 => Ties::Udh16,
            Parts::Sar => Ties::Sar,
            Parts::Payload => Ties::Payload,
        }
    }
}

#[derive(Args, Clone, Debug)]
struct ListenArgs {
    #[command(flatten)]
    peer: Peer,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct BenchArgs {
    #[command(flatten)]
    peer: Peer,
    #[command(flatten)]
    message: Message,
    /// Messages to send
    #[arg(short = 'n', long, default_value_t = 10_000)]
    count: u64,
    /// Messages that may be unanswered
    #[arg(short = 'w', long, default_value_t = 100)]
    window: usize,
    /// The text
    #[arg(default_value = "Hello from the bench")]
    text: String,
}

#[derive(Args, Clone, Debug)]
struct SimArgs {
    /// Address to listen on
    #[arg(short = 'l', long, default_value = "127.0.0.1:2775")]
    listen: SocketAddr,
    /// Who may bind; may be repeated; without it everybody may
    #[arg(short = 'u', long = "user", value_name = "SYSTEM_ID:PASSWORD")]
    users: Vec<String>,
    /// Milliseconds until a message is answered
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Answer with this status in so many of 100 cases: a number or a name, such as RTHROTTLED:5; may be repeated
    #[arg(long = "error", value_name = "STATUS[:PERCENT]")]
    errors: Vec<String>,
    /// Word of the receipts, and milliseconds until they come
    #[arg(long, value_name = "STATE[:MS]", default_value = "DELIVRD:100")]
    receipt: String,
    /// Never answer messages
    #[arg(long)]
    silent: bool,
    /// Send every message back to its sender
    #[arg(long)]
    echo: bool,
    /// Ids as decimal numbers in receipts, while the answers have hexadecimal ones, as some SMS centres do
    #[arg(long)]
    decimal_receipts: bool,
    /// Deliver the lines of standard input, `FROM TO TEXT`, to all that receive
    #[arg(long)]
    stdin: bool,
    /// TLS with this certificate chain
    #[arg(long, value_name = "PEM", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "PEM", requires = "certificate")]
    key: Option<PathBuf>,
}

/// The drivers that client and simulator stand on.
struct World {
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    streams: Arc<dyn Streams>,
    _control: Control,
}

/// Does what the command line asks for.
pub fn smpp(args: SmppArgs) -> anyhow::Result<ExitCode> {
    let control = Control::start().context("cannot start the control thread")?;
    let handle = control.handle();
    let resolver = resolver(DnsConfig::default(), &handle).context("cannot start the resolver")?;
    let world = World {
        clock: handle.clock(),
        spawn: handle.spawner(),
        streams: streams::streams(&handle, resolver),
        _control: control,
    };
    match args.command {
        Command::Bind(args) => client::bind(&world, &args),
        Command::Send(args) => client::send(&world, &args),
        Command::Listen(args) => client::listen(&world, &args),
        Command::Bench(args) => client::bench(&world, &args),
        Command::Sim(args) => sim::sim(&world, args),
    }
}
