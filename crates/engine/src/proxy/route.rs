//! Route and Record-Route: where a request that carries Route goes next (RFC 3261 §16.4, §16.6 step 6, §16.12).
//!
//! Pure decisions over the received message; the host turns them into edits and a next hop. Strict routers before and
//! behind us are understood, and the pair of Record-Routes a proxy puts between two transports or addresses.

use switchroom_wire::sip::{Message, Method, NameAddr, Uri};

/// What loose routing decided.
#[derive(Clone, Copy, Debug)]
pub struct LooseRoute<'a> {
    /// How many Route values to remove from the top.
    pub pop: usize,
    /// Our own Route URI that was on top, with the parameters we once put there; the request URI when a strict router
    /// sent us the request.
    pub own: Option<&'a [u8]>,
    /// Our second Route URI when the first was one of a pair.
    pub own_second: Option<&'a [u8]>,
    /// The new request URI: a strict router before us had put ours there, or one behind us wants its own.
    pub ruri: Option<&'a [u8]>,
    /// The last Route value moves into the request URI and is to be removed.
    pub drop_last: bool,
    /// A strict router is next: the request URI (after the change above) goes behind the last Route value. This is that
    /// URI.
    pub append: Option<&'a [u8]>,
    /// Where to send the request: the URI of the next Route value. `None`: to the request URI.
    pub next_hop: Option<&'a [u8]>,
}

/// Reads the Route of a request that may be for us.
///
/// `None`: Route does not concern us, because it is missing or unreadable, or because its first value is another's and
/// the request is no follow-up in a dialog. `is_ours` tells whether host, port and transport of a URI are this proxy.
pub fn loose_route<'a>(request: &'a Message, is_ours: impl Fn(&Uri<'_>) -> bool) -> Option<LooseRoute<'a>> {
    let mut routes = Routes::of(request)?;
    let ruri = request.ruri().ok()?;
    let mut found = LooseRoute {
        pop: 0,
        own: None,
        own_second: None,
        ruri: None,
        drop_last: false,
        append: None,
        next_hop: None,
    };
    // A strict router put our Record-Route into the request URI. A phone's user is not mistaken for it: ours has none, or
    // carries `lr`.
    let sent_strictly = is_ours(&ruri) && (ruri.user.is_none() || ruri.is_loose());
    if sent_strictly
        && let Some(first) = routes.first()
        && !is_ours(&first)
    {
        let last = routes.take_last()?;
        found.own = Some(ruri.raw);
        found.ruri = Some(last.uri);
        found.drop_last = true;
    } else if let Some(first) = routes.first().filter(|u| is_ours(u)) {
        found.own = Some(first.raw);
        found.pop = 1;
        routes.skip_first();
        if let Some(second) = routes.first().filter(|u| is_pair(&first, u) && is_ours(u)) {
            found.own_second = Some(second.raw);
            found.pop = 2;
            routes.skip_first();
        }
    } else if !in_dialog(request) {
        return None;
    }
    if let Some(next) = routes.first() {
        found.next_hop = Some(next.raw);
        if !next.is_loose() {
            found.append = Some(found.ruri.unwrap_or(ruri.raw));
            found.ruri = Some(next.raw);
            found.pop += 1;
        }
    }
    Some(found)
}

/// Whether both URIs are halves of a double Record-Route, marked with `r2=on`.
fn is_pair(first: &Uri<'_>, second: &Uri<'_>) -> bool {
    let marked = |u: &Uri<'_>| u.param("r2").is_some_and(|v| v.eq_ignore_ascii_case(b"on"));
    marked(first) && marked(second)
}

fn in_dialog(request: &Message) -> bool {
    request.to().is_ok_and(|t| t.tag().is_some()) && request.method() != Method::Cancel
}

/// The Route values of a message: the first not yet used, and the last.
struct Routes<'a> {
    request: &'a Message,
    skipped: usize,
    count: usize,
}

impl<'a> Routes<'a> {
    /// `None` when there is no Route or a value cannot be read.
    fn of(request: &'a Message) -> Option<Routes<'a>> {
        let mut count = 0;
        for route in request.routes() {
            route.ok()?.parse_uri().ok()?;
            count += 1;
        }
        (count > 0).then_some(Routes { request, skipped: 0, count })
    }

    fn first(&self) -> Option<Uri<'a>> {
        if self.skipped >= self.count {
            return None;
        }
        self.request.routes().nth(self.skipped)?.ok()?.parse_uri().ok()
    }

    fn skip_first(&mut self) {
        self.skipped += 1;
    }

    fn take_last(&mut self) -> Option<NameAddr<'a>> {
        self.count = self.count.checked_sub(1)?;
        self.request.routes().nth(self.count)?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(ruri: &str, routes: &str, to_tag: &str) -> Message {
        let route = if routes.is_empty() { String::new() } else { format!("Route: {routes}\r\n") };
        let raw = format!(
            "BYE {ruri} SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>{to_tag}\r\nCall-ID: c\r\n\
             CSeq: 1 BYE\r\n{route}\r\n"
        );
        Message::parse(Bytes::from(raw)).unwrap()
    }

    /// A short form of the decision.
    fn decide(ruri: &str, routes: &str, to_tag: &str) -> Option<String> {
        let m = request(ruri, routes, to_tag);
        let found = loose_route(&m, |u| u.host.starts_with(b"us"))?;
        let text =
            |t: Option<&[u8]>| t.map_or("-".into(), |t| String::from_utf8_lossy(t).replace("sip:", ""));
        Some(format!(
            "pop {} ruri {} drop {} append {} next {}",
            found.pop,
            text(found.ruri),
            found.drop_last,
            text(found.append),
            text(found.next_hop)
        ))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    #[test]
    fn our_route_is_taken_off_and_the_next_followed() {
        assert_eq!(
            decide("sip:b@c", "<sip:us;lr>", ";tag=2"),
            some("pop 1 ruri - drop false append - next -")
        );
        assert_eq!(
            decide("sip:b@c", "<sip:us;lr>, <sip:p2;lr>", ""),
            some("pop 1 ruri - drop false append - next p2;lr")
        );
    }

    #[test]
    fn both_halves_of_a_double_record_route_are_taken_off() {
        assert_eq!(
            decide("sip:b@c", "<sip:us1;r2=on;lr>,<sip:us2;r2=on;lr>,<sip:p;lr>", ";tag=2"),
            some("pop 2 ruri - drop false append - next p;lr")
        );
        assert_eq!(
            decide("sip:b@c", "<sip:us1;lr>,<sip:us2;lr>", ";tag=2"),
            some("pop 1 ruri - drop false append - next us2;lr")
        );
    }

    #[test]
    fn a_strict_router_before_us_is_undone() {
        assert_eq!(
            decide("sip:us;lr", "<sip:p2;lr>,<sip:b@c>", ";tag=2"),
            some("pop 0 ruri b@c drop true append - next p2;lr")
        );
        assert_eq!(decide("sip:us", "<sip:b@c>", ";tag=2"), some("pop 0 ruri b@c drop true append - next -"));
    }

    #[test]
    fn a_strict_router_behind_us_gets_its_own_uri() {
        assert_eq!(
            decide("sip:b@c", "<sip:us;lr>,<sip:strict>,<sip:p3;lr>", ";tag=2"),
            some("pop 2 ruri strict drop false append b@c next strict")
        );
    }

    #[test]
    fn what_is_not_ours_is_left_alone_outside_dialogs_and_followed_inside() {
        assert_eq!(decide("sip:b@c", "", ";tag=2"), None);
        assert_eq!(decide("sip:b@c", "<sip:p2;lr>", ""), None);
        assert_eq!(
            decide("sip:b@c", "<sip:p2;lr>", ";tag=2"),
            some("pop 0 ruri - drop false append - next p2;lr")
        );
        assert_eq!(decide("sip:b@c", "nonsense", ";tag=2"), None);
    }
}
