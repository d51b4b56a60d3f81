//! Scripts in, outcome out: who is let in by the table of addresses.

use crate::support::House;
use switchroom_kernel::commands;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const SCRIPT: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "permissions.so"
modparam("permissions", "db_url", "test:one")
modparam("permissions", "partition", "other: table_name = address")
route {
    if (!check_source_address(4, $avp(info), "$rU")) {
        send_reply(403, "Forbidden");
        exit;
    }
    get_source_group($var(group));
    if (!check_address(0, "192.0.2.200", 5060, "tcp", , , "other")) {
        send_reply(500, "Partition");
        exit;
    }
    append_to_reply("X-Info: $avp(info) $var(group)\r\n");
    send_reply(200, "OK");
}
"#;

fn addresses(sql: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    assert_eq!(sql, "SELECT grp, ip, mask, port, proto, pattern, context_info FROM address");
    let row = |group: i64, ip: &str, mask: i64, pattern: &str, info: &str| {
        let (group, mask, any) = (SqlValue::Int(group), SqlValue::Int(mask), SqlValue::from("any"));
        vec![
            group,
            SqlValue::from(ip),
            mask,
            SqlValue::Int(0),
            any,
            SqlValue::from(pattern),
            SqlValue::from(info),
        ]
    };
    Ok(vec![row(4, "127.0.0.1", 32, "49*", "trunk"), row(7, "192.0.2.0", 24, "*", "net")])
}

fn invite(number: u32, user: &str) -> String {
    format!(
        "INVITE sip:{user}@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKp{number}\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <sip:{user}@example.org>\r\nCall-ID: p{number}\r\n\
         CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_sender_of_the_group_gets_in_and_the_script_learns_the_context() {
    let house = House::start(SCRIPT, addresses);
    let reply = house.one(&invite(1, "4930"));
    assert!(reply.starts_with("SIP/2.0 200") && reply.contains("X-Info: trunk 4\r\n"), "{reply}");
    house.pass(60);
    let reply = house.one(&invite(2, "3930"));
    assert!(reply.starts_with("SIP/2.0 403"), "{reply}");
}

#[test]
fn the_table_can_be_seen_and_read_again() {
    let house = House::start(SCRIPT, addresses);
    let run = |name: &str| block_on(commands::run(&house.kernel, name, serde_json::Value::Null)).unwrap();
    assert_eq!(run("address_reload"), "OK");
    let hosts = run("permissions:address_dump");
    assert_eq!(hosts["Partitions"][0]["Destinations"][0]["context_info"], "trunk", "{hosts}");
    let networks = run("subnet_dump");
    assert_eq!(networks["Partitions"][1]["Destinations"][0]["mask"], 24, "{networks}");
}
