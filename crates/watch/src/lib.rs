//! Watching and managing: management commands over FIFO and HTTP, statistics that scripts define.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod httpd;
pub mod mi_fifo;
pub mod mi_http;
pub mod statistics;
#[cfg(test)]
mod testing;
pub mod trace;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] =
    &[&httpd::MODULE, &mi_fifo::MODULE, &mi_http::MODULE, &statistics::MODULE, &trace::MODULE];

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
            include_str!("httpd/README.md"),
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
