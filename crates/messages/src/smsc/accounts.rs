//! Customers' accounts: who may bind, from where, how often and how fast.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use parking_lot::Mutex;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use switchroom_engine::smpp_session::Mode;
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};

/// Rounds of PBKDF2 (HMAC-SHA256) for new passwords.
const ROUNDS: u32 = 100_000;
/// More rounds than a bind should cost.
const MOST_ROUNDS: u32 = 2_000_000;

/// An account as its row has it.
///
/// More than 15 fields: they are the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub system_id: Arc<str>,
    /// Hash of the password: see [`hash`].
    pub password: String,
    /// Addresses and networks it may come from; none allows all.
    pub addresses: Vec<(IpAddr, u8)>,
    /// May bind as transmitter, receiver, transceiver.
    pub modes: [bool; 3],
    /// Binds at a time.
    pub binds: usize,
    /// Messages a second; 0 for any number.
    pub rate: u32,
    /// Unanswered messages in one direction of a bind.
    pub window: usize,
    /// Senders it may use: whole, or a beginning with `*`; none allows all.
    pub senders: Vec<String>,
    /// Sender of messages that have none.
    pub default_sender: String,
    /// Credit account that pays; empty for nobody.
    pub credit: String,
    /// Hash of the API key.
    pub api_key: String,
    /// URL that gets messages and receipts.
    pub webhook: String,
    /// Secret of the webhook's signature.
    pub webhook_secret: String,
    /// Whether its PDUs are read strictly.
    pub strict: bool,
    /// Whether it may do anything.
    pub enabled: bool,
}

impl Account {
    /// Whether it may come from there.
    pub fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.addresses.is_empty() || self.addresses.iter().any(|(net, bits)| within(ip, *net, *bits))
    }

    /// Whether it may bind so.
    pub fn may_bind(&self, mode: Mode) -> bool {
        match mode {
            Mode::Transmitter => self.modes[0],
            Mode::Receiver => self.modes[1],
            Mode::Transceiver => self.modes[2],
        }
    }

    /// Whether it may use a sender.
    pub fn may_send_as(&self, sender: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => sender.starts_with(prefix),
            None => pattern.eq_ignore_ascii_case(sender),
        };
        self.senders.is_empty() || self.senders.iter().any(fits)
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let same = |a: &[u8], b: &[u8]| {
        let whole = usize::from(bits / 8).min(a.len());
        let rest = bits % 8;
        a[..whole] == b[..whole]
            && (rest == 0 || whole >= a.len() || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
    };
    match (ip, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets()),
        _ => false,
    }
}

/// `10.0.0.1, 10.1.0.0/16`
fn networks(text: &str) -> Result<Vec<(IpAddr, u8)>, String> {
    let one = |word: &str| {
        let (ip, bits) = word.split_once('/').unwrap_or((word, ""));
        let ip: IpAddr = ip.parse().map_err(|_| format!("\"{word}\" is no address such as 192.0.2.0/24"))?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = if bits.is_empty() { Some(most) } else { bits.parse().ok().filter(|b| *b <= most) };
        bits.map(|b| (ip, b)).ok_or_else(|| format!("\"{word}\" has more than {most} bits"))
    };
    text.split([',', ' ']).filter(|w| !w.is_empty()).map(one).collect()
}

/// `pbkdf2-sha256$rounds$salt$hash`, salt and hash in base64.
pub fn hash(password: &[u8]) -> Result<String, String> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| "the system gives no random numbers")?;
    let mut out = [0; 32];
    let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut out);
    Ok(format!("pbkdf2-sha256${ROUNDS}${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out)))
}

/// Whether the password is the one of the hash. Takes milliseconds on purpose.
pub fn verify(hash: &str, password: &[u8]) -> bool {
    let mut parts = hash.trim_end().split('$');
    let (Some("pbkdf2-sha256"), Some(rounds), Some(salt), Some(sum), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let rounds = rounds.parse().ok().filter(|r: &u32| *r <= MOST_ROUNDS).and_then(NonZeroU32::new);
    let (Some(rounds), Ok(salt), Ok(sum)) =
        (rounds, STANDARD_NO_PAD.decode(salt), STANDARD_NO_PAD.decode(sum))
    else {
        return false;
    };
    pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &sum).is_ok()
}

/// API keys are long and random, so one round is enough and requests stay cheap.
pub fn hash_key(key: &str) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    format!("sha256${}", STANDARD_NO_PAD.encode(sum.as_ref()))
}

/// A new API key.
pub fn new_key() -> Result<String, String> {
    let mut octets = [0; 24];
    SystemRandom::new().fill(&mut octets).map_err(|_| "the system gives no random numbers")?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(octets))
}

/// Checks passwords on a thread of its own, one after the other, since each costs milliseconds.
pub struct Verifier {
    line: std::sync::mpsc::SyncSender<Check>,
}

struct Check {
    hash: String,
    password: Vec<u8>,
    told: Box<dyn FnOnce(bool) + Send>,
}

/// Passwords that wait to be checked.
const LINE: usize = 64;
/// Passwords that were right, so that a customer who binds often does not cost much.
const KNOWN: usize = 1024;

impl Verifier {
    /// Starts the thread. It ends with the last handle.
    pub fn start() -> Result<Verifier, String> {
        let (line, checks) = std::sync::mpsc::sync_channel::<Check>(LINE);
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| "the system gives no random numbers")?;
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let work = move || {
            let mut known: HashMap<String, Vec<u8>> = HashMap::new();
            for check in checks {
                let sum = ring::hmac::sign(&secret, &check.password).as_ref().to_vec();
                let mut right = known.get(&check.hash) == Some(&sum);
                if !right && verify(&check.hash, &check.password) {
                    right = true;
                    if known.len() >= KNOWN {
                        known.clear();
                    }
                    known.insert(check.hash, sum);
                }
                (check.told)(right);
            }
        };
        let thread = std::thread::Builder::new().name("smsc-passwords".into()).spawn(work);
        thread.map(|_| Verifier { line }).map_err(|e| format!("no thread for passwords: {e}"))
    }

    /// Checks a password; false when too many wait.
    pub fn check(&self, hash: String, password: Vec<u8>, told: Box<dyn FnOnce(bool) + Send>) -> bool {
        self.line.try_send(Check { hash, password, told }).is_ok()
    }
}

/// A bucket of messages a second, filled evenly; holds one second's worth.
#[derive(Debug, Default)]
pub struct Rate(Mutex<(i64, u32)>);

impl Rate {
    /// Whether one more fits at `now_ms`, unix milliseconds. `rate` 0 lets everything pass.
    pub fn take(&self, rate: u32, now_ms: i64) -> bool {
        if rate == 0 {
            return true;
        }
        let second = now_ms / 1000;
        let mut bucket = self.0.lock();
        if bucket.0 != second {
            *bucket = (second, 0);
        }
        if bucket.1 >= rate {
            return false;
        }
        bucket.1 += 1;
        true
    }
}

/// Reads all accounts; a row that is wrong is an error with its name.
pub async fn load(store: &dyn Store) -> Result<Vec<Account>, String> {
    let sql = "SELECT system_id, password, addresses, bind_types, binds, rate, max_window, senders, default_sender, credit, api_key, webhook, webhook_secret, strict, enabled FROM sms_account";
    let rows = store.fetch(Query::new(sql, Vec::new())).await;
    let rows = rows.map_err(|e: StoreError| format!("table sms_account: {e}"))?;
    rows.rows.iter().map(|row| read(row)).collect()
}

fn read(row: &[SqlValue]) -> Result<Account, String> {
    let text = |i: usize| {
        let text = row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        text.trim().to_owned()
    };
    let int = |i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or_default();
    let name = text(0);
    let at = |what: &str, e: String| format!("sms_account {name}: {what}: {e}");
    let types = text(3).to_ascii_lowercase();
    let any = types.is_empty();
    let has = |word: &str| any || types.split([',', ' ']).any(|t| t == word);
    let count = |i: usize, what: &str| {
        usize::try_from(int(i)).map_err(|_| at(what, format!("{} must not be negative", int(i))))
    };
    Ok(Account {
        password: text(1),
        addresses: networks(&text(2)).map_err(|e| at("addresses", e))?,
        modes: [has("tx"), has("rx"), has("trx")],
        binds: count(4, "binds")?,
        rate: u32::try_from(int(5)).map_err(|_| at("rate", "it must not be negative".into()))?,
        window: count(6, "window")?.clamp(1, 10_000),
        senders: text(7).split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        default_sender: text(8),
        credit: text(9),
        api_key: text(10),
        webhook: text(11),
        webhook_secret: text(12),
        strict: int(13) != 0,
        enabled: int(14) != 0,
        system_id: name.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_only() {
        let hash = hash(b"secret").unwrap();
        assert!(verify(&hash, b"secret"));
        assert!(!verify(&hash, b"Secret"));
        assert!(!verify("secret", b"secret"));
        assert!(!verify("pbkdf2-sha256$4000000000$AAAA$AAAA", b"secret"));
        let verifier = Verifier::start().unwrap();
        for (password, right) in [(&b"secret"[..], true), (b"wrong", false), (b"secret", true)] {
            let (tell, told) = std::sync::mpsc::channel();
            let told_by = Box::new(move |ok| tell.send(ok).unwrap());
            assert!(verifier.check(hash.clone(), password.to_vec(), told_by));
            assert_eq!(told.recv().unwrap(), right);
        }
    }

    #[test]
    fn addresses_senders_and_rates_are_kept() {
        let account = Account {
            addresses: networks("192.0.2.0/25, 2001:db8::1").unwrap(),
            senders: vec!["Shop".into(), "49151*".into()],
            ..Account::default()
        };
        let admits = |ip: &str| account.admits(ip.parse().unwrap());
        assert!(admits("192.0.2.127") && admits("2001:db8::1") && admits("::ffff:192.0.2.1"));
        assert!(!admits("192.0.2.128") && !admits("2001:db8::2"));
        assert!(account.may_send_as("shop") && account.may_send_as("491517"));
        assert!(!account.may_send_as("Bank"));
        assert!(networks("192.0.2.0/33").is_err() && networks("x").is_err());
        let rate = Rate::default();
        let taken = (0..5).filter(|_| rate.take(3, 1_000)).count();
        assert_eq!(taken, 3);
        assert!(rate.take(3, 2_000) && Rate::default().take(0, 0));
    }
}
