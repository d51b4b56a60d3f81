//! The pages of the modules of this floor and of `calls`.

use std::path::Path;

use switchroom_kernel::Module;
use switchroom_rehearsal::pages::faults;

/// Modules that are described together elsewhere.
const WITHOUT_PAGE: &[&str] = &["proto_udp", "proto_tcp"];

#[test]
fn every_page_names_what_its_module_exports_and_its_examples_load() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all: Vec<&'static Module> = [switchroom_calls::MODULES, switchroom_users::MODULES].concat();
    let mut wrong = Vec::new();
    for (floor, modules) in [("calls", switchroom_calls::MODULES), ("users", switchroom_users::MODULES)] {
        let paged: Vec<&'static Module> =
            modules.iter().filter(|m| !WITHOUT_PAGE.contains(&m.name)).copied().collect();
        wrong.extend(faults(&crates.join(floor).join("src"), &paged, &all, &["core"]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
