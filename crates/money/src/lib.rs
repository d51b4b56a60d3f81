//! Money modules: accounting, prepaid accounts.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod acc;
pub mod credit;
#[cfg(test)]
mod testing;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[&acc::MODULE, &credit::MODULE];

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
        let readmes = [include_str!("acc/README.md"), include_str!("credit/README.md")];
        let all: Vec<&'static Module> =
            switchroom_calls::MODULES.iter().chain(super::MODULES).copied().collect();
        for readme in readmes {
            let text = script(readme);
            let loaded = load(&Source::Text("example".into(), text.as_bytes().into()), &all, &["core"]);
            assert!(loaded.is_ok(), "{text}\n{:?}", loaded.err());
        }
    }
}
