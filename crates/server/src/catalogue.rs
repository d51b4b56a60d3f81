//! Every module of the house, from every floor.

use switchroom_kernel::Module;

/// All modules, by floor.
pub fn modules() -> Vec<&'static Module> {
    let floors = [
        switchroom_data::MODULES,
        switchroom_calls::MODULES,
        switchroom_users::MODULES,
        switchroom_messages::MODULES,
        switchroom_money::MODULES,
        switchroom_tools::MODULES,
        switchroom_watch::MODULES,
    ];
    floors.into_iter().flatten().copied().collect()
}

/// Modules that need no `loadmodule`.
pub const ALWAYS: &[&str] = &["core", "cache"];

#[cfg(test)]
mod tests {
    use switchroom_kernel::registry::Registry;

    #[test]
    fn every_exported_name_is_unique() {
        let registry = Registry::new(super::modules());
        assert_eq!(registry.duplicates(), Vec::<String>::new());
    }
}
