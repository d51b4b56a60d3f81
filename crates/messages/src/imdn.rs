//! Instant message disposition notifications: a message in its wrapper (`message/cpim`, RFC 3862) that asks to hear of its
//! delivery, and the notification that says so (`message/imdn+xml`, RFC 5438).
//!
//! Left out: notifications of processing and of display, which short messages know nothing of; a notification that says
//! "displayed" counts as delivered.

use roxmltree::{Document, ParsingOptions};

/// Elements and texts of a notification that are read at most.
const MAX_NODES: u32 = 200;
/// Content type of the wrapper.
pub const CPIM: &str = "message/cpim";
/// Name of the header names' space (RFC 5438 §6).
const SPACE: &str = "urn:ietf:params:imdn";

/// What the wrapper says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpim<'a> {
    /// `DateTime`
    pub moment: &'a str,
    /// `To`, as it stands there.
    pub to: &'a str,
    /// `imdn.Message-ID`
    pub message_id: &'a str,
    /// `positive-delivery` is wanted.
    pub positive: bool,
    /// `negative-delivery` is wanted.
    pub negative: bool,
    /// Content type of what is inside, in small letters, without parameters.
    pub kind: String,
    /// What is inside.
    pub body: &'a str,
}

/// What a notification says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// `imdn.Message-ID` of the message.
    pub message_id: String,
    /// Whether it came to its recipient.
    pub delivered: bool,
}

/// Somebody besides the account wants to be told what became of a text: a SIP user (RFC 5438), or a web page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Who wants to be told: `sip:user@domain`, or `report:account` for a page.
    pub user: Box<str>,
    /// `imdn.Message-ID` of the text; for a page any name of the text.
    pub message_id: Box<str>,
    /// Its `DateTime`; for a page how it is called: see [`Asked::page`].
    pub moment: Box<str>,
    /// URI it was sent to; for a page its URL.
    pub recipient: Box<str>,
    /// Messages that it became.
    pub parts: u16,
}

impl Asked {
    /// A page that is called for an account, in the manner of `how`.
    #[must_use]
    pub fn by_page(account: &str, name: String, how: &str, url: &str) -> Asked {
        Asked {
            user: format!("report:{account}").into(),
            message_id: name.into(),
            moment: how.into(),
            recipient: url.into(),
            parts: 1,
        }
    }

    /// How a page is called, and its URL; `None` for a SIP user.
    #[must_use]
    pub fn page(&self) -> Option<(&str, &str)> {
        self.user.starts_with("report:").then_some((&*self.moment, &*self.recipient))
    }
}

impl<'a> Cpim<'a> {
    /// Reads a wrapper; `None` when it is none.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Cpim<'a>> {
        let (about, rest) = split(text)?;
        let (inside, body) = split(rest)?;
        let mut cpim = Cpim { kind: "text/plain".into(), body, ..Cpim::default() };
        let space = headers(about)
            .filter(|(name, _)| *name == "NS")
            .find_map(|(_, value)| value.strip_suffix(&format!("<{SPACE}>")))
            .map_or("imdn", str::trim);
        for (name, value) in headers(about) {
            let own = name.strip_prefix(space).and_then(|n| n.strip_prefix('.'));
            match (name, own) {
                ("DateTime", _) => cpim.moment = value,
                ("To", _) => cpim.to = value,
                (_, Some("Message-ID")) => cpim.message_id = value,
                (_, Some("Disposition-Notification")) => {
                    let has = |word| value.split(',').any(|v| v.trim().eq_ignore_ascii_case(word));
                    cpim.positive = has("positive-delivery");
                    cpim.negative = has("negative-delivery");
                }
                _ => {}
            }
        }
        let kind = headers(inside).find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if let Some((_, value)) = kind {
            cpim.kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        }
        Some(cpim)
    }

    /// `registered_delivery` that asks for the same; 0 when it asks for nothing, or cannot be answered without a name.
    #[must_use]
    pub fn receipts(&self) -> u8 {
        match (self.positive, self.negative) {
            _ if self.message_id.is_empty() => 0,
            (true, true) => 1,
            (false, true) => 2,
            (true, false) => 3,
            (false, false) => 0,
        }
    }

    /// The notification inside, when it is one about delivery or display.
    #[must_use]
    pub fn notification(&self) -> Option<Notification> {
        if self.kind != "message/imdn+xml" {
            return None;
        }
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let xml = Document::parse_with_options(self.body.trim(), options).ok()?;
        let element = |name: &str| xml.descendants().find(|n| n.tag_name().name() == name);
        let message_id = element("message-id")?.text()?.trim().to_owned();
        let told = element("delivery-notification").or_else(|| element("display-notification"))?;
        let status = told.children().find(|n| n.tag_name().name() == "status")?;
        let status = status.children().find(|n| n.is_element())?.tag_name().name();
        let delivered = match status {
            "delivered" | "displayed" => true,
            "failed" | "forbidden" | "error" => false,
            _ => return None,
        };
        Some(Notification { message_id, delivered })
    }
}

/// A text in its wrapper, which asks whether it is delivered.
#[must_use]
pub fn wrap(from: &str, to: &str, moment: &str, message_id: &str, text: &str) -> String {
    let length = text.len();
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nDateTime: {moment}\r\nNS: imdn <{SPACE}>\r\n\
         imdn.Message-ID: {message_id}\r\nimdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
         Content-type: text/plain; charset=utf-8\r\nContent-length: {length}\r\n\r\n{text}"
    )
}

/// A notification in its wrapper (RFC 5438 §7.2.1.1). `name` is its own.
#[must_use]
pub fn notify(from: &str, to: &str, moment: &str, name: &str, about: &Notification) -> String {
    let status = if about.delivered { "delivered" } else { "failed" };
    let (message_id, recipient) = (escape(&about.message_id), escape(from));
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n\
         <message-id>{message_id}</message-id>\r\n<datetime>{moment}</datetime>\r\n\
         <recipient-uri>{recipient}</recipient-uri>\r\n\
         <delivery-notification><status><{status}/></status></delivery-notification>\r\n</imdn>\r\n"
    );
    let length = xml.len();
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nNS: imdn <{SPACE}>\r\nimdn.Message-ID: {name}\r\n\r\n\
         Content-type: message/imdn+xml\r\nContent-Disposition: notification\r\nContent-length: {length}\r\n\r\n{xml}"
    )
}

/// Unix seconds as `2026-01-31T12:00:00Z` (RFC 3339).
#[must_use]
pub fn moment(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Up to the empty line, and what follows it.
fn split(text: &str) -> Option<(&str, &str)> {
    let crlf = text.find("\r\n\r\n").map(|at| (at, 4));
    let lf = text.find("\n\n").map(|at| (at, 2));
    let (at, long) = [crlf, lf].into_iter().flatten().min()?;
    Some((&text[..at], &text[at + long..]))
}

fn headers(block: &str) -> impl Iterator<Item = (&str, &str)> {
    block.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of RFC 5438 §7.1.1.3, in another name space, with line ends of its own.
    const MESSAGE: &str = "From: Alice <im:alice@example.com>\nTo: Bob <im:bob@example.com>\n\
        NS: told <urn:ietf:params:imdn>\ntold.Message-ID: 34jk324j\nDateTime: 2006-04-04T12:16:49-05:00\n\
        told.Disposition-Notification: positive-delivery, Negative-Delivery\n\nContent-type: text/plain\n\
        Content-length: 12\n\nHello World\n";

    #[test]
    fn a_wrapper_says_what_is_asked_for() {
        let cpim = Cpim::read(MESSAGE).unwrap();
        assert_eq!((cpim.message_id, cpim.moment), ("34jk324j", "2006-04-04T12:16:49-05:00"));
        assert_eq!((cpim.kind.as_str(), cpim.body, cpim.receipts()), ("text/plain", "Hello World\n", 1));
        assert_eq!(cpim.notification(), None);
        let only = MESSAGE.replace("positive-delivery, ", "");
        assert_eq!(Cpim::read(&only).unwrap().receipts(), 2);
        let nameless = MESSAGE.replace("told.Message-ID", "told.X");
        assert_eq!(Cpim::read(&nameless).unwrap().receipts(), 0);
        assert_eq!(Cpim::read("hello"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let text = wrap("sip:a@b", "sip:c@d", &moment(0), "sms-7", "Привет");
        let cpim = Cpim::read(&text).unwrap();
        assert_eq!((cpim.message_id, cpim.body, cpim.receipts()), ("sms-7", "Привет", 1));
        for delivered in [true, false] {
            let about = Notification { message_id: "34jk324j".into(), delivered };
            let text = notify("sip:c@d", "sip:a@b", &moment(0), "x", &about);
            assert_eq!(Cpim::read(&text).unwrap().notification(), Some(about));
        }
    }

    #[test]
    fn notifications_of_others_are_read_whatever_their_prefixes() {
        let text = "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: d8\r\n\r\nContent-type: message/imdn+xml\r\n\r\n\
            <?xml version=\"1.0\"?><i:imdn xmlns:i='urn:ietf:params:xml:ns:imdn'><i:message-id>sms-9</i:message-id>\
            <i:display-notification><i:status><i:displayed/></i:status></i:display-notification></i:imdn>";
        let told = Cpim::read(text).unwrap();
        assert_eq!(told.notification(), Some(Notification { message_id: "sms-9".into(), delivered: true }));
        let failed = text.replace("displayed", "error");
        assert!(!Cpim::read(&failed).unwrap().notification().unwrap().delivered);
        for broken in ["displayed/", "i:status", "message-id>"] {
            let broken = text.replace(broken, "<");
            let read = Cpim::read(&broken).unwrap();
            assert!(read.notification().is_none_or(|n| n.message_id == "sms-9"), "{broken}");
        }
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(1_709_164_799), "2024-02-28T23:59:59Z");
        assert_eq!(moment(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(moment(4_102_444_800), "2100-01-01T00:00:00Z");
    }
}
