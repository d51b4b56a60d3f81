//! `switchroom demo`: the real server, two built-in phones over real sockets, one call, and what it left behind.

mod ladder;
mod phone;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::Proto;

use crate::cli::DemoArgs;
use crate::house::{House, Options};
use crate::{database, default_script, logging, sockets};
use ladder::Ladder;
use phone::Phone;

/// Start, call, show, and stay up.
pub fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    logging::start(false);
    let (data_dir, temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("switchroom-demo-{}", std::process::id())), true),
    };
    let result = show(args, &data_dir);
    if temporary {
        // The folder was made for this demo only.
        let _ = std::fs::remove_dir_all(&data_dir);
    }
    result?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &DemoArgs, data_dir: &Path) -> anyhow::Result<()> {
    let mi_port = free_port(default_script::MI_PORT)?;
    let script = default_script::prepare_with(data_dir, mi_port)?;
    let listen = args.listen.iter().map(|l| sockets::parse_listen(l)).collect::<Result<Vec<_>, _>>()?;
    let options = Options { listen, ..Options::default() };
    let house = House::start(Source::Text("built-in".into(), script.into_bytes().into()), options)
        .context("the server did not start; --listen udp:127.0.0.1:5070 uses another port")?;
    for s in house.sockets() {
        println!("listening on {}", s.name());
    }
    let server = house.sockets().iter().find(|s| s.proto == Proto::Udp).map(|s| s.addr);
    let server = server.context("the demo needs a UDP socket")?;
    let url = database::url_in(data_dir);
    let outcome = call(server, &url);
    match &outcome {
        Ok(ladder) => print!("{ladder}"),
        Err(e) => eprintln!("the call failed: {e:#}"),
    }
    if outcome.is_ok() {
        accounting(&url)?;
        statistics(&house);
    }
    if outcome.is_err() || args.exit {
        house.stop();
        return outcome.map(|_| ());
    }
    println!();
    println!("The server stays up. Register your own phone:");
    println!("  server {server}   user alice or bob   password {}", phone::PASSWORD);
    println!("  more users:  switchroom user add NAME@{} PASSWORD --url {url}", server.ip());
    println!("  management:  switchroom mi --url http://127.0.0.1:{mi_port}/mi usrloc:dump");
    println!("Ctrl-C ends it.");
    let (stop, wait) = mpsc::channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // The receiver waits below for as long as the process lives.
            let _ = stop.send(());
        }
    });
    wait.recv().context("signals")?;
    house.stop();
    Ok(())
}

/// Register both phones and let alice call bob.
fn call(server: SocketAddr, url: &str) -> anyhow::Result<Ladder> {
    let domain = server.ip().to_string();
    database::add_users(url, &[("alice", &domain, phone::PASSWORD), ("bob", &domain, phone::PASSWORD)])?;
    let mut ladder = Ladder::new(Instant::now());
    let mut alice = Phone::new("alice", server)?;
    let mut bob = Phone::new("bob", server)?;
    alice.register(&mut ladder)?;
    bob.register(&mut ladder)?;
    phone::call(&mut alice, &mut bob, &mut ladder)?;
    Ok(ladder)
}

/// The accounting rows of the call. They are written behind the answer, so they may take a moment.
fn accounting(url: &str) -> anyhow::Result<()> {
    let sql = "SELECT method, callid, sip_code, sip_reason, time FROM acc ORDER BY id";
    let limit = Instant::now() + std::time::Duration::from_secs(5);
    let (columns, rows) = loop {
        let found = database::rows(url, sql)?;
        if found.1.len() >= 2 {
            break found;
        }
        if Instant::now() > limit {
            bail!("the accounting rows did not come");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    println!("\naccounting (table acc)");
    println!("  {}", columns.join(" | "));
    for row in rows {
        println!("  {}", row.join(" | "));
    }
    Ok(())
}

fn statistics(house: &House) {
    println!("\nstatistics");
    let groups = ["core", "tm", "sl", "registrar", "usrloc"];
    for (group, name, value, _) in house.kernel.stats.list(|g, _| groups.contains(&g)) {
        if value != 0 && name != "timestamp" {
            println!("  {group}:{name} = {value}");
        }
    }
}

/// The wanted port, or one that is free when it is taken.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}
