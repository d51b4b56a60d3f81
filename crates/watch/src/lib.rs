//! Watching and managing: management commands over FIFO, HTTP and datagrams, events that leave the house, statistics that
//! scripts define.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod event_datagram;
pub mod event_flatstore;
pub mod event_stream;
pub mod event_virtual;
pub mod httpd;
pub mod mi_datagram;
pub mod mi_fifo;
pub mod mi_http;
mod outbox;
mod owner;
pub mod statistics;
#[cfg(test)]
mod testing;
pub mod trace;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[
    &event_datagram::MODULE,
    &event_flatstore::MODULE,
    &event_stream::MODULE,
    &event_virtual::MODULE,
    &httpd::MODULE,
    &mi_datagram::MODULE,
    &mi_fifo::MODULE,
    &mi_http::MODULE,
    &statistics::MODULE,
    &trace::MODULE,
];

#[cfg(test)]
mod tests {
    use switchroom_kernel::Module;
    use switchroom_kernel::load::{Source, load};

    /// The lines of a script in the examples of a README.
    fn script(readme: &str) -> String {
        let (_, examples) = readme.split_once("## Examples").unwrap();
        let mut script: String =
            examples.lines().filter_map(|l| l.strip_prefix("    ")).map(|l| format!("{l}\n")).collect();
        if let Some(at) = script.find("\ncurl ") {
            script.truncate(at);
        }
        if !script.contains("route {") {
            script.push_str("\nroute { exit; }\n");
        }
        script
    }

    #[test]
    fn the_examples_of_every_readme_load() {
        let readmes = [
            include_str!("event_datagram/README.md"),
            include_str!("event_flatstore/README.md"),
            include_str!("event_stream/README.md"),
            include_str!("event_virtual/README.md"),
            include_str!("httpd/README.md"),
            include_str!("mi_datagram/README.md"),
            include_str!("mi_fifo/README.md"),
            include_str!("mi_http/README.md"),
            include_str!("statistics/README.md"),
            include_str!("trace/README.md"),
        ];
        let all: Vec<&'static Module> =
            switchroom_calls::MODULES.iter().chain(super::MODULES).copied().collect();
        for readme in readmes {
            let text = script(readme);
            let loaded = load(&Source::Text("example".into(), text.as_bytes().into()), &all, &["core"]);
            assert!(loaded.is_ok(), "{text}\n{:?}", loaded.err());
        }
    }
}
