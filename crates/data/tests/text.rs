//! Databases made of text files.

use switchroom_data::text::TextDriver;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{Query, SqlValue, StoreDriver, StoreError, StoreOptions};

#[test]
fn tables_are_read_from_files_and_changes_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let subscriber = "id(int,auto) username(str) domain(str) password(str)\n1:bob:example.org:a\\:b\n";
    std::fs::write(folder.path().join("subscriber"), subscriber).unwrap();
    std::fs::write(folder.path().join("version"), "table_name(str) table_version(int)\nsubscriber:8\n")
        .unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no table").unwrap();
    let driver = TextDriver::start().unwrap();
    let url = format!("text://{}", folder.path().display());
    let store = block_on(driver.open(&url, &StoreOptions::new())).unwrap();
    let sql = "SELECT password FROM subscriber WHERE username = ? AND domain = ?";
    let found = block_on(store.fetch(Query::new(sql, vec!["bob".into(), "example.org".into()]))).unwrap();
    assert_eq!(found.rows, [[SqlValue::from("a:b")]]);
    let insert = "INSERT INTO subscriber (username) VALUES (?)";
    block_on(store.execute(Query::new(insert, vec!["carol".into()]))).unwrap();
    let again = block_on(driver.open(&url, &StoreOptions::new())).unwrap();
    let ids = block_on(again.fetch(Query::new("SELECT id FROM subscriber ORDER BY id", vec![]))).unwrap();
    assert_eq!(ids.rows, [[SqlValue::Int(1)], [SqlValue::Int(2)]]);
    assert_eq!(std::fs::read_to_string(folder.path().join("subscriber")).unwrap(), subscriber);
}

#[test]
fn a_broken_file_and_a_missing_folder_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("address"), "id(int)\nx\n").unwrap();
    let driver = TextDriver::start().unwrap();
    let open = |url: &str| block_on(driver.open(url, &StoreOptions::new())).err().unwrap();
    let broken = open(&format!("text://{}", folder.path().display())).to_string();
    assert!(broken.contains("address: 2: \"x\" is no int"), "{broken}");
    assert!(matches!(open("text:///nowhere"), StoreError::Unreachable(_)));
    assert!(matches!(open("text://"), StoreError::Url(_)));
}
