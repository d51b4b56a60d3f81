//! One binding of an address of record: a contact, packed into one allocation.

use switchroom_kernel::ports::net::SocketId;

/// The texts of a contact, in the order they are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Contact URI.
    Uri,
    /// `sip:ip:port` the REGISTER came from, when that differs.
    Received,
    /// Path (RFC 3327), values joined by commas.
    Path,
    /// User-Agent.
    UserAgent,
    /// Call-ID of the registration.
    CallId,
    /// `+sip.instance` (RFC 5626).
    Instance,
    /// Free attribute of the script's.
    Attr,
}

const FIELDS: usize = 7;

/// Module flag of a contact that is woken by push (RFC 8599).
pub const PUSH: u32 = 1 << 4;

/// The texts of a contact before they are packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// See [`Field::Uri`].
    pub uri: &'a [u8],
    /// See [`Field::Received`].
    pub received: &'a [u8],
    /// See [`Field::Path`].
    pub path: &'a [u8],
    /// See [`Field::UserAgent`].
    pub user_agent: &'a [u8],
    /// See [`Field::CallId`].
    pub call_id: &'a [u8],
    /// See [`Field::Instance`].
    pub instance: &'a [u8],
    /// See [`Field::Attr`].
    pub attr: &'a [u8],
}

/// Whether the database has what memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Not in the database yet.
    New,
    /// The same.
    Clean,
    /// Changed in memory.
    Dirty,
}

/// One binding.
///
/// The texts lie behind each other in one allocation, since a registrar holds millions of these.
#[derive(Clone, Debug)]
pub struct Contact {
    texts: Box<[u8]>,
    ends: [u16; FIELDS],
    /// Key of the row, unique in the table.
    pub id: u64,
    /// Seconds since the epoch; 0 never ends.
    pub expires: u64,
    /// Last change, seconds since the epoch.
    pub modified: u64,
    /// CSeq of the registration.
    pub cseq: u32,
    /// Module flags (`flags` column).
    pub flags: u32,
    /// Branch flags (`cflags` column).
    pub cflags: u32,
    /// Allowed methods as a bit mask; all ones when the phone did not say.
    pub methods: u32,
    /// Quality in thousandths, -1 when not given.
    pub q: i16,
    /// Time the last answered ping took, in microseconds; 0 before the first.
    pub latency: u32,
    /// Pings since the last one that was answered.
    pub unanswered: u8,
    /// Socket the REGISTER came in on.
    pub socket: Option<SocketId>,
    /// State towards the database.
    pub sync: Sync,
    /// Changed since its record was last looked over.
    touched: bool,
}

impl Contact {
    /// A contact of the given texts; the rest is filled in by the caller. Texts above 65,535 bytes in sum are cut, which
    /// the length limits of the registrar rule out.
    pub fn new(texts: &Texts<'_>) -> Contact {
        let (packed, ends) = pack(texts);
        Contact {
            texts: packed,
            ends,
            id: 0,
            expires: 0,
            modified: 0,
            cseq: 0,
            flags: 0,
            cflags: 0,
            methods: u32::MAX,
            q: -1,
            latency: 0,
            unanswered: 0,
            socket: None,
            sync: Sync::New,
            touched: true,
        }
    }

    /// Replace all texts.
    pub fn set_texts(&mut self, texts: &Texts<'_>) {
        (self.texts, self.ends) = pack(texts);
    }

    /// Mark as changed.
    pub fn touch(&mut self) {
        self.touched = true;
        if self.sync == Sync::Clean {
            self.sync = Sync::Dirty;
        }
    }

    /// Whether it was changed; the mark goes.
    pub(super) fn take_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Mark as the database has it.
    pub(super) fn settle(&mut self) {
        self.touched = false;
        self.sync = Sync::Clean;
    }

    /// One text.
    pub fn text(&self, field: Field) -> &[u8] {
        let i = field as usize;
        let start = if i == 0 { 0 } else { usize::from(self.ends[i - 1]) };
        self.texts.get(start..usize::from(self.ends[i])).unwrap_or(&[])
    }

    /// All texts.
    pub fn texts(&self) -> Texts<'_> {
        Texts {
            uri: self.text(Field::Uri),
            received: self.text(Field::Received),
            path: self.text(Field::Path),
            user_agent: self.text(Field::UserAgent),
            call_id: self.text(Field::CallId),
            instance: self.text(Field::Instance),
            attr: self.text(Field::Attr),
        }
    }

    /// Contact URI.
    pub fn uri(&self) -> &[u8] {
        self.text(Field::Uri)
    }

    /// Whether it still counts at `now`.
    pub fn is_live(&self, now: u64) -> bool {
        self.expires == 0 || self.expires > now
    }

    /// One text as UTF-8; what is not UTF-8 is replaced.
    pub fn string(&self, field: Field) -> String {
        String::from_utf8_lossy(self.text(field)).into_owned()
    }
}

fn pack(t: &Texts<'_>) -> (Box<[u8]>, [u16; FIELDS]) {
    let parts = [t.uri, t.received, t.path, t.user_agent, t.call_id, t.instance, t.attr];
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    let mut ends = [0; FIELDS];
    for (part, end) in parts.iter().zip(&mut ends) {
        let room = usize::from(u16::MAX) - out.len();
        out.extend_from_slice(&part[..part.len().min(room)]);
        *end = out.len() as u16;
    }
    (out.into_boxed_slice(), ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_packed() {
        let c = Contact::new(&Texts { uri: b"sip:a@b", call_id: b"x", attr: b"zz", ..Texts::default() });
        assert_eq!(c.uri(), b"sip:a@b");
        assert_eq!(c.text(Field::Received), b"");
        assert_eq!(c.text(Field::CallId), b"x");
        assert_eq!(c.text(Field::Attr), b"zz");
        assert_eq!(c.texts().call_id, b"x");
    }
}
