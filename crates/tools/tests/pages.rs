//! The pages of the modules of this floor.

use std::path::Path;

use switchroom_kernel::Module;
use switchroom_rehearsal::pages::faults;

#[test]
fn every_page_names_what_its_module_exports_and_its_examples_load() {
    let all: Vec<&'static Module> = [switchroom_calls::MODULES, switchroom_tools::MODULES].concat();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong = faults(&src, switchroom_tools::MODULES, &all, &["core", "cache"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
