//! Push notifications (RFC 8599): what the parameters of a Contact ask for, and what the 200 to a REGISTER announces.
//!
//! Left out: waking phones (`wake`) and sending pushes (the module `push`).

use std::time::Duration;

use switchroom_kernel::open::Opening;
use switchroom_wire::sip::{HeaderId, Message, Uri, scan};

use crate::usrloc::Location;

/// Settings of push notifications.
pub(super) struct Push {
    /// Known services.
    pub providers: Vec<String>,
    /// Every service is known (`any`).
    pub any: bool,
    /// Contact parameters that say which device it is.
    pub match_params: Vec<String>,
    /// Seconds before the end of a binding at which phones that can run by themselves refresh it (`+sip.pnsreg`).
    pub pnsreg_interval: u64,
    /// Bindings refreshed less than so many seconds ago are called without a push.
    pub skip_interval: u64,
    /// How long a request waits for a phone that was woken.
    pub refresh_timeout: Duration,
    /// Requests inside dialogs wake phones as well.
    pub purr: bool,
}

/// What a Contact of a REGISTER is to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// Asks which services there are; one when it names it.
    Query(Option<String>),
    /// A proxy before us takes care of it. With the key by which it is found again, if it has one.
    Upstream(Option<Vec<u8>>),
    /// Is to be woken by us; the key by which it is found again.
    Device(Vec<u8>),
}

impl Kind {
    /// What the device is found again by.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Kind::Device(key) | Kind::Upstream(Some(key)) => Some(key),
            _ => None,
        }
    }
}

/// The service is not supported: 555 (RFC 8599 §4.1.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSupported;

impl Push {
    /// From the parameters; `None` when it is off.
    pub fn open(o: &Opening<'_>) -> Result<Option<Push>, String> {
        if !o.on("pn_enable") {
            return Ok(None);
        }
        let list = |name: &str| -> Vec<String> {
            let text = o.text(name);
            text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()
        };
        let mut providers = list("pn_providers");
        if providers.is_empty() {
            return Err(
                "pn_enable is set, but pn_providers names no service; write \"apns, fcm\" for example".into(),
            );
        }
        if let Some(long) = providers.iter().find(|p| p.len() > 40) {
            return Err(format!("pn_providers: \"{long}\" is longer than 40 characters"));
        }
        let any = providers.iter().any(|p| p.eq_ignore_ascii_case("any"));
        providers.retain(|p| !p.eq_ignore_ascii_case("any"));
        let match_params = list("pn_ct_match_params");
        if match_params.is_empty() {
            return Err(
                "pn_ct_match_params is empty; the usual value is \"pn-provider, pn-prid, pn-param\"".into()
            );
        }
        for needed in ["tm", "event_routing"] {
            if !o.kernel.registry.modules.iter().any(|m| m.name == needed) {
                return Err(format!("pn_enable needs the module {needed}; write loadmodule \"{needed}.so\""));
            }
        }
        let purr = o.on("pn_enable_purr");
        let called = |name: &str| o.kernel.registry.is_called(name);
        let stays = called("record_route") || called("record_route_preset") || called("topology_hiding");
        match (purr, called("pn_process_purr")) {
            (true, false) => {
                return Err("pn_enable_purr is set, but the script never calls async(pn_process_purr(\"location\"), ...)".into());
            }
            (false, true) => {
                return Err("the script calls pn_process_purr(), but pn_enable_purr is not set".into());
            }
            (true, true) if !stays => {
                return Err("pn_enable_purr is set, but the script calls neither record_route() nor topology_hiding()".into());
            }
            _ => {}
        }
        let seconds = |name: &str| o.int(name).max(0) as u64;
        let location = o.kernel.state::<Location>();
        if location.refresh_in_time {
            location.sleepers.set_lead(seconds("pn_trigger_interval"));
        }
        Ok(Some(Push {
            providers,
            any,
            match_params,
            pnsreg_interval: seconds("pn_pnsreg_interval"),
            skip_interval: seconds("pn_skip_pn_interval"),
            refresh_timeout: Duration::from_secs(seconds("pn_refresh_timeout").max(1)),
            purr,
        }))
    }

    /// What a Contact URI asks for. `upstream` are the services that proxies before us announced.
    pub fn kind(&self, uri: &[u8], upstream: &[String]) -> Result<Kind, NotSupported> {
        let Ok(uri) = Uri::parse(uri) else { return Ok(Kind::Plain) };
        let Some(provider) = uri.param("pn-provider") else { return Ok(Kind::Plain) };
        let provider = String::from_utf8_lossy(provider).into_owned();
        if provider.is_empty() {
            return Ok(Kind::Query(None));
        }
        let is_it = |p: &String| p.eq_ignore_ascii_case(&provider);
        if upstream.iter().any(is_it) {
            return Ok(Kind::Upstream(self.key(&uri)));
        }
        if !self.any && !self.providers.iter().any(is_it) || provider.len() > 40 {
            return Err(NotSupported);
        }
        if uri.param("pn-prid").is_none() && uri.param("pn-param").is_none() {
            return Ok(Kind::Query(Some(provider)));
        }
        self.key(&uri).map(Kind::Device).ok_or(NotSupported)
    }

    /// The values of the matching parameters, when all are there.
    pub fn key(&self, uri: &Uri<'_>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        for name in &self.match_params {
            let value = uri.param(name).filter(|v| !v.is_empty())?;
            key.extend_from_slice(&scan::percent_decode(value));
            key.push(0);
        }
        Some(key)
    }

    /// Header lines that answer a Contact of this kind (RFC 8599 §8). `id` is the number of the binding.
    pub fn announce(&self, kind: &Kind, id: u64, upstream: &[String], out: &mut Vec<u8>) {
        let service = |name: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(b"Feature-Caps: *;+sip.pns=\"");
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        };
        match kind {
            Kind::Plain | Kind::Upstream(_) => {}
            Kind::Query(None) => {
                for p in self.providers.iter().filter(|p| !upstream.iter().any(|u| u.eq_ignore_ascii_case(p)))
                {
                    service(p, out);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Kind::Query(Some(one)) => {
                service(one, out);
                out.extend_from_slice(b"\r\n");
            }
            Kind::Device(key) => {
                let name = key.split(|b| *b == 0).next().unwrap_or_default();
                let name = match self.match_params.first() {
                    Some(first) if first.eq_ignore_ascii_case("pn-provider") => String::from_utf8_lossy(name),
                    _ => "".into(),
                };
                service(&name, out);
                out.extend_from_slice(b";+sip.pnsreg=\"");
                out.extend_from_slice(itoa::Buffer::new().format(self.pnsreg_interval).as_bytes());
                out.push(b'"');
                if self.purr {
                    out.extend_from_slice(b";+sip.pnspurr=\"");
                    out.extend_from_slice(purr(id).as_bytes());
                    out.push(b'"');
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The URI without what only concerns push.
    pub fn strip(&self, uri: &[u8]) -> Vec<u8> {
        let Ok(parsed) = Uri::parse(uri) else { return uri.to_vec() };
        let raw = parsed.params().raw();
        let start = (raw.as_ptr() as usize).wrapping_sub(uri.as_ptr() as usize);
        if raw.is_empty() || start > uri.len() {
            return uri.to_vec();
        }
        // The parameters begin with their `;`, or right behind it.
        let head = uri.get(..start).unwrap_or(uri);
        let head = head.strip_suffix(b";").unwrap_or(head);
        let mut out = head.to_vec();
        for param in raw.split(|b| *b == b';').filter(|p| !p.is_empty()) {
            let name = param.split(|b| *b == b'=').next().unwrap_or_default();
            let ours = |n: &str| name.eq_ignore_ascii_case(n.as_bytes());
            let push = ["pn-provider", "pn-prid", "pn-param"].into_iter().any(ours);
            if !push && !self.match_params.iter().any(|n| ours(n)) {
                out.push(b';');
                out.extend_from_slice(param);
            }
        }
        out.extend_from_slice(uri.get(start + raw.len()..).unwrap_or_default());
        out
    }
}

/// Services that proxies on the way announced (`Feature-Caps: *;+sip.pns="apns"`, RFC 6809).
pub(super) fn announced(msg: &Message) -> Vec<String> {
    let mut all = Vec::new();
    for h in msg.headers_of(HeaderId::FeatureCaps) {
        for value in scan::commas(h.value) {
            for param in value.split(|b| *b == b';') {
                let text = String::from_utf8_lossy(scan::trim(param)).into_owned();
                if let Some((name, value)) = text.split_once('=')
                    && name.trim().eq_ignore_ascii_case("+sip.pns")
                {
                    all.push(value.trim().trim_matches('"').to_owned());
                }
            }
        }
    }
    all
}

/// The text by which requests inside dialogs name a binding: 16 hexadecimal digits with dots after the third and eighth.
pub(super) fn purr(id: u64) -> String {
    let hex = format!("{id:016x}");
    format!("{}.{}.{}", &hex[..3], &hex[3..8], &hex[8..])
}

/// And back.
pub(super) fn parse_purr(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let fits =
        text.len() == 18 && text.as_bytes().get(3) == Some(&b'.') && text.as_bytes().get(9) == Some(&b'.');
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    (fits && digits.len() == 16).then(|| u64::from_str_radix(&digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push() -> Push {
        Push {
            providers: vec!["apns".into(), "fcm".into()],
            any: false,
            match_params: ["pn-provider", "pn-prid", "pn-param"].map(str::to_owned).to_vec(),
            pnsreg_interval: 130,
            skip_interval: 0,
            refresh_timeout: Duration::from_secs(6),
            purr: true,
        }
    }

    #[test]
    fn a_contact_says_by_its_parameters_what_it_wants_of_push() {
        let p = push();
        let kind = |uri: &str| p.kind(uri.as_bytes(), &[]);
        assert_eq!(kind("sip:a@1.2.3.4"), Ok(Kind::Plain));
        assert_eq!(kind("sip:a@1.2.3.4;pn-provider"), Ok(Kind::Query(None)));
        assert_eq!(kind("sip:a@1.2.3.4;pn-provider=fcm"), Ok(Kind::Query(Some("fcm".into()))));
        assert_eq!(kind("sip:a@1.2.3.4;pn-provider=acme"), Err(NotSupported));
        assert_eq!(kind("sip:a@1.2.3.4;pn-provider=fcm;pn-prid=x"), Err(NotSupported));
        let whole = kind("sip:a@1.2.3.4;pn-provider=fcm;pn-prid=x;pn-param=y").unwrap();
        assert_eq!(whole, Kind::Device(b"fcm\0x\0y\0".to_vec()));
        let upstream = ["acme".to_owned()];
        assert_eq!(p.kind(b"sip:a@h;pn-provider=acme;pn-prid=x", &upstream), Ok(Kind::Upstream(None)));
    }

    #[test]
    fn the_answer_names_services_interval_and_binding() {
        let p = push();
        let said = |kind: &Kind| {
            let mut out = Vec::new();
            p.announce(kind, 0x0123_4567_89ab_cdef, &["fcm".to_owned()], &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(&Kind::Plain), "");
        assert_eq!(said(&Kind::Query(None)), "Feature-Caps: *;+sip.pns=\"apns\"\r\n");
        assert_eq!(
            said(&Kind::Device(b"apns\0x\0".to_vec())),
            "Feature-Caps: *;+sip.pns=\"apns\";+sip.pnsreg=\"130\";+sip.pnspurr=\"012.34567.89abcdef\"\r\n"
        );
        assert_eq!(parse_purr(b"012.34567.89abcdef"), Some(0x0123_4567_89ab_cdef));
        assert_eq!(parse_purr(b"0123456789abcdef"), None);
    }

    #[test]
    fn what_concerns_push_is_taken_off_the_uri_and_the_rest_stays() {
        let p = push();
        let uri = b"sip:a;x=1@1.2.3.4:5;pn-provider=fcm;transport=tcp;pn-prid=x;ob;pn-param=y?h=1";
        assert_eq!(p.strip(uri), b"sip:a;x=1@1.2.3.4:5;transport=tcp;ob?h=1");
        assert_eq!(p.strip(b"sip:a@h"), b"sip:a@h");
    }
}
