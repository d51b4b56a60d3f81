//! Parameters of the module, and what one connection has besides its row.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::module::Param;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::ClientTls;
use switchroom_wire::gsm::Alphabet;

use crate::link::compose::{Style, Ties};

/// The table.
pub(super) static PARAMS: &[Param] = &[
    Param::unset("db_url", "Database with the table; the default is db_default_url"),
    Param::unset("outbound_uri", "SIP URI that incoming short messages are sent to as MESSAGE"),
    Param::int("smpp_port", "2775", "Port of `socket=smpp:...` without one"),
    Param::int(
        "smpp_max_msg_chunks",
        "8",
        "Accepted for older scripts; PDUs may come in any number of pieces",
    ),
    Param::int("smpp_send_timeout", "100", "Accepted for older scripts; sending never blocks"),
    Param::str("smpp_table", "smpp", "Name of the table"),
    Param::str("name_col", "name", "Column: name in scripts"),
    Param::str("ip_col", "ip", "Column: address or host name"),
    Param::str("port_col", "port", "Column: TCP port; 0 waits for the peer to connect"),
    Param::str("system_id_col", "system_id", "Column: who binds"),
    Param::str("password_col", "password", "Column: with which password"),
    Param::str("system_type_col", "system_type", "Column: system type"),
    Param::str("src_ton_col", "src_ton", "Column: type of number of senders"),
    Param::str("src_npi_col", "src_npi", "Column: numbering plan of senders"),
    Param::str("dst_ton_col", "dst_ton", "Column: type of number of recipients"),
    Param::str("dst_npi_col", "dst_npi", "Column: numbering plan of recipients"),
    Param::str(
        "session_type_col",
        "session_type",
        "Column: 1 transceiver, 2 transmitter, 3 receiver, 4 outbind",
    ),
    Param::multi("connection", "\"name: setting=value; ...\" for one connection, or for all with the name *"),
    Param::int("send_wait", "20", "Seconds that send_smpp_message() waits for the answer"),
    Param::int("max_queue", "1000", "Messages that may wait for each connection; more are refused"),
    Param::int("max_connections", "1000", "Connections of peers to our sockets"),
    Param::int("join_timeout", "86400", "Seconds that missing parts of a message are waited for"),
    Param::int(
        "imdn_timeout",
        "86400",
        "Seconds that a phone has to say what became of a message (setting imdn)",
    ),
    Param::unset("tls_certificate", "Certificate chain (PEM) for sockets on tls_port"),
    Param::unset("tls_private_key", "Its key (PEM)"),
    Param::int("tls_port", "3550", "Sockets on this port speak TLS, when there is a certificate"),
    Param::unset("tls_ca", "Authorities for the certificates of SMS centres: a PEM file or a folder"),
    Param::int("tls_verify", "1", "0: any certificate of an SMS centre is good"),
];

/// What a connection has besides its row.
#[derive(Clone, Debug)]
pub struct Conf {
    /// Alphabet, how parts are tied, and how many there may be.
    pub style: Style,
    /// Messages of ours that may be unanswered.
    pub window: usize,
    /// Messages a second; 0 is no limit.
    pub rate: u32,
    /// Silence after which the peer is asked whether it is there.
    pub enquire_link: Duration,
    /// Until a request must be answered.
    pub response: Duration,
    /// Version we say we speak.
    pub version: u8,
    /// Addresses we ask for in the bind.
    pub address_range: String,
    /// Bodies to the letter.
    pub strict: bool,
    /// Phones are asked to say that a message of this application was delivered (RFC 5438).
    pub imdn: bool,
    /// TLS.
    pub tls: Option<Arc<ClientTls>>,
}

/// Settings of all connections: those of `*`, then those of the name.
pub(super) struct Confs {
    list: Vec<(String, Vec<(String, String)>)>,
    tls: Arc<ClientTls>,
}

impl Confs {
    /// Reads the parameter `connection`; every setting is checked here.
    pub fn read(o: &Opening<'_>) -> Result<Confs, String> {
        let tls = ClientTls {
            verify_chain: o.on("tls_verify"),
            verify_host: o.on("tls_verify"),
            authorities: o.str("tls_ca").filter(|p| !p.is_empty()).map(PathBuf::from),
            identity: None,
        };
        let mut list = Vec::new();
        for text in o.all("connection") {
            list.push(entry(&text).map_err(|e| format!("parameter `connection`: \"{text}\": {e}"))?);
        }
        let confs = Confs { list, tls: Arc::new(tls) };
        for (name, _) in &confs.list {
            confs.of(name).map_err(|e| format!("parameter `connection`: {name}: {e}"))?;
        }
        Ok(confs)
    }

    /// Settings of one connection.
    pub fn of(&self, name: &str) -> Result<Conf, String> {
        let mut conf = Conf {
            style: Style::default(),
            window: 10,
            rate: 0,
            enquire_link: Duration::from_secs(30),
            response: Duration::from_secs(60),
            version: 0x34,
            address_range: String::new(),
            strict: false,
            imdn: false,
            tls: None,
        };
        let general = self.list.iter().filter(|(n, _)| n == "*");
        let own = self.list.iter().filter(|(n, _)| n == name && n != "*");
        for (key, value) in general.chain(own).flat_map(|(_, settings)| settings) {
            self.set(&mut conf, key, value)?;
        }
        Ok(conf)
    }

    fn set(&self, conf: &mut Conf, key: &str, value: &str) -> Result<(), String> {
        let number = |from: u64, to: u64| match value.parse::<u64>() {
            Ok(n) if (from..=to).contains(&n) => Ok(n),
            _ => Err(format!("{key}={value}: a number from {from} to {to} is needed")),
        };
        match key {
            "alphabet" => {
                conf.style.default = match value {
                    "gsm7" => Alphabet::Gsm7,
                    "gsm7-packed" => Alphabet::Gsm7Packed,
                    "latin1" => Alphabet::Latin1,
                    "ascii" => Alphabet::Ascii,
                    "utf8" => Alphabet::Utf8,
                    "ucs2" => Alphabet::Ucs2,
                    _ => {
                        return Err(format!(
                            "alphabet={value}: there are gsm7, gsm7-packed, latin1, ascii, utf8, ucs2"
                        ));
                    }
                };
            }
            "parts" => {
                conf.style.ties = Ties::by_name(value)
                    .ok_or_else(|| format!("parts={value}: there are udh8, udh16, sar, payload"))?;
            }
            "max_parts" => conf.style.max_parts = number(1, 255)? as usize,
            "window" => conf.window = number(1, 10_000)? as usize,
            "rate" => conf.rate = number(0, 1_000_000)? as u32,
            "enquire_link" => conf.enquire_link = Duration::from_secs(number(1, 3600)?),
            "response" => conf.response = Duration::from_secs(number(1, 600)?),
            "version" => {
                conf.version = match value {
                    "3.3" => 0x33,
                    "3.4" => 0x34,
                    "5.0" => 0x50,
                    _ => return Err(format!("version={value}: there are 3.3, 3.4, 5.0")),
                };
            }
            "address_range" => conf.address_range = value.to_owned(),
            "strict" => conf.strict = number(0, 1)? == 1,
            "imdn" => conf.imdn = number(0, 1)? == 1,
            "tls" => conf.tls = (number(0, 1)? == 1).then(|| self.tls.clone()),
            _ => {
                return Err(format!(
                    "there is no setting `{key}`; there are alphabet, parts, max_parts, window, rate, \
                     enquire_link, response, version, address_range, strict, imdn, tls"
                ));
            }
        }
        Ok(())
    }
}

type Entry = (String, Vec<(String, String)>);

fn entry(text: &str) -> Result<Entry, String> {
    let (name, rest) = text.split_once(':').ok_or("write \"name: setting=value; setting=value\"")?;
    let mut settings = Vec::new();
    for pair in rest.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` has no `=`"))?;
        settings.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok((name.trim().to_owned(), settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_one_connection_come_over_those_of_all() {
        let list = vec![
            entry("*: window=50; alphabet=latin1").unwrap(),
            entry("a: parts=sar; window = 7; tls=1").unwrap(),
        ];
        let confs = Confs { list, tls: Arc::default() };
        let (a, b) = (confs.of("a").unwrap(), confs.of("b").unwrap());
        assert_eq!((a.window, a.style.ties, a.style.default), (7, Ties::Sar, Alphabet::Latin1));
        assert_eq!((b.window, b.style.ties, b.tls.is_some()), (50, Ties::Udh8, false));
    }

    #[test]
    fn a_wrong_setting_says_what_would_be_right() {
        let confs = |text: &str| Confs { list: vec![entry(text).unwrap()], tls: Arc::default() };
        for (text, wanted) in [
            ("a: windows=1", "there is no setting `windows`"),
            ("a: window=0", "from 1 to 10000"),
            ("a: parts=x", "udh8, udh16, sar, payload"),
        ] {
            let error = confs(text).of("a").unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(entry("a window=1").is_err());
    }
}
