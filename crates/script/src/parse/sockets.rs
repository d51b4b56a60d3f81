//! Structured global parameters: `socket`, `alias`, `auto_scaling_profile`, `dst_blacklist`.

use bytes::Bytes;

use super::ast::*;
use super::{Parsed, Parser};
use crate::lex::Kind;
use crate::net::Network;
use crate::source::Span;

const PROTOCOLS: [&str; 18] = [
    "udp", "tcp", "tls", "ws", "wss", "sctp", "bin", "bins", "hep_udp", "hep_tcp", "hep_tls", "smpp", "msrp",
    "msrps", "ipsec", "bond", "any", "hep",
];

impl Parser<'_> {
    pub(super) fn socket(&mut self) -> Parsed<SocketDef> {
        let (text, at) = self.socket_text("a socket (`proto:address:port`)")?;
        let (proto, host, ports) = self.split_socket(&text, at)?;
        let mut socket = SocketDef { proto, host, ports, ..SocketDef::default() };
        if socket.proto.as_deref() == Some("bond") {
            self.expect("{")?;
            while !self.is_op("}") {
                let (member, _) = self.string("a socket of the bond")?;
                socket.bond.push(String::from_utf8_lossy(&member).into_owned());
                if !self.eat(",") {
                    break;
                }
            }
            self.expect("}")?;
        } else if socket.proto.is_none() {
            let front = Span { len: 0, ..at };
            self.warn_fix(
                at,
                "a socket without a protocol",
                "write `udp:` before the address",
                front,
                "udp:",
            );
        }
        self.socket_options(&mut socket)?;
        Ok(socket)
    }

    fn socket_options(&mut self, socket: &mut SocketDef) -> Parsed<()> {
        while let Some(word) = self.word() {
            match word {
                "as" | "AS" => {
                    self.bump();
                    let (text, at) = self.socket_text("the address to advertise")?;
                    let (_, host, ports) = self.split_socket(&text, at)?;
                    socket.advertise = Some((host, ports.first().map(|p| p.0)));
                }
                "use_workers" | "use_children" => {
                    self.bump();
                    let at = self.token.span;
                    let n = self.signed_int("the number of workers")?;
                    match u32::try_from(n) {
                        Ok(n) => socket.workers = Some(n),
                        Err(_) => self.error(at, "the number of workers cannot be negative"),
                    }
                }
                "use_auto_scaling_profile" => {
                    self.bump();
                    socket.scaling = Some(self.option_word("the profile's name")?);
                }
                "tag" => {
                    self.bump();
                    socket.tag = Some(self.option_word("the tag")?);
                }
                "tos" => {
                    self.bump();
                    socket.tos = Some(self.option_word("a type of service")?);
                }
                _ => {
                    match word {
                        "anycast" => socket.anycast = true,
                        "frag" => socket.frag = true,
                        "reuse_port" => socket.reuse_port = true,
                        "accept_subdomain" => socket.accept_subdomain = true,
                        "allow_proxy_protocol" => socket.allow_proxy_protocol = true,
                        "send_proxy_protocol" => socket.send_proxy_protocol = true,
                        "proxy_protocol" => {
                            socket.allow_proxy_protocol = true;
                            socket.send_proxy_protocol = true;
                        }
                        _ => return Ok(()),
                    }
                    self.bump();
                }
            }
        }
        Ok(())
    }

    pub(super) fn aliases(&mut self) -> Parsed<Vec<AliasDef>> {
        let mut list: Vec<AliasDef> = Vec::new();
        loop {
            let next = if list.is_empty() {
                Some(self.socket_text("a name (`proto:host:port`)")?)
            } else if let Kind::Str { .. } = self.token.kind {
                Some(self.socket_text("a name")?)
            } else {
                self.raw_word(b"{}", true)
            };
            let Some((text, at)) = next else { return Ok(list) };
            if let ("accept_subdomain", Some(last)) = (text.as_str(), list.last_mut()) {
                last.accept_subdomain = true;
                continue;
            }
            let (proto, host, ports) = self.split_socket(&text, at)?;
            list.push(AliasDef {
                proto: proto.filter(|p| p != "any"),
                host,
                port: ports.first().map(|p| p.0),
                accept_subdomain: false,
            });
        }
    }

    pub(super) fn scaling_profile(&mut self) -> Parsed<ScalingProfile> {
        let mut profile =
            ScalingProfile { name: self.option_word("the profile's name")?, ..Default::default() };
        self.words(&["scale", "up", "to"])?;
        profile.up_to = self.signed_int("a number")?;
        self.words(&["on"])?;
        profile.up_load = self.signed_int("a percentage")?;
        self.expect("%")?;
        self.words(&["for"])?;
        profile.up_cycles = self.signed_int("a number of cycles")?;
        self.words(&["cycles"])?;
        if self.word() == Some("within") {
            self.bump();
            profile.within = Some(self.signed_int("a number of cycles")?);
            if self.word() == Some("cycles") {
                self.bump();
            }
        }
        if self.word() == Some("scale") {
            self.words(&["scale", "down", "to"])?;
            let to = self.signed_int("a number")?;
            self.words(&["on"])?;
            let load = self.signed_int("a percentage")?;
            self.expect("%")?;
            self.words(&["for"])?;
            let cycles = self.signed_int("a number of cycles")?;
            self.words(&["cycles"])?;
            profile.down = Some((to, load, cycles));
        }
        Ok(profile)
    }

    pub(super) fn blacklist(&mut self) -> Parsed<BlacklistDef> {
        let (head, at) = match self.raw_word(b":{", false) {
            Some(found) => found,
            None => return self.fail(self.token.span, "expected the blacklist's name"),
        };
        let (name, options) = head.split_once('/').unwrap_or((&head, ""));
        let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(str::to_string).collect();
        if let Some(odd) =
            options.iter().find(|o| !matches!(o.as_str(), "readonly" | "read-only" | "expire" | "default"))
        {
            self.error(at, format!("`{odd}` is no blacklist option (`readonly`, `expire`, `default`)"));
        }
        let mut list = BlacklistDef { name: name.into(), options, rules: Vec::new() };
        if !self.eat(":") {
            return Ok(list);
        }
        if !self.is_op("{") {
            let negated = self.eat("!");
            let net = self.network()?;
            list.rules.push(BlacklistRule { negated, proto: None, net, port: 0, pattern: Bytes::new() });
            return Ok(list);
        }
        self.expect("{")?;
        while !self.is_op("}") {
            let rule = self.blacklist_rule()?;
            list.rules.push(rule);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(list)
    }

    fn blacklist_rule(&mut self) -> Parsed<BlacklistRule> {
        let negated = self.eat("!");
        self.expect("(")?;
        let mut proto = None;
        if !self.at_network() {
            let word = self.option_word("a protocol")?.to_ascii_lowercase();
            if !PROTOCOLS.contains(&word.as_str()) {
                self.error(self.last, format!("`{word}` is no protocol"));
            }
            proto = Some(word).filter(|p| p != "any");
            self.expect(",")?;
        }
        let net = self.network()?;
        let mut rule = BlacklistRule { negated, proto, net, port: 0, pattern: Bytes::new() };
        if self.eat(",") {
            let at = self.token.span;
            let port = self.signed_int("a port")?;
            rule.port = match u16::try_from(port) {
                Ok(port) => port,
                Err(_) => return self.fail(at, "a port is 0 to 65535"),
            };
        }
        if self.eat(",") {
            rule.pattern = self.string("a pattern")?.0;
        }
        self.expect(")")?;
        Ok(rule)
    }

    fn at_network(&self) -> bool {
        match &self.token.kind {
            Kind::Net(_) => true,
            Kind::Str { text, .. } => Network::parse(text).is_some(),
            _ => false,
        }
    }

    fn network(&mut self) -> Parsed<Network> {
        let net = match &self.token.kind {
            Kind::Net(net) => *net,
            Kind::Str { text, .. } if Network::parse(text).is_some() => match Network::parse(text) {
                Some(net) => net,
                None => return self.fail(self.token.span, "expected an address or network"),
            },
            _ => return self.fail(self.token.span, "expected an address or network"),
        };
        self.bump();
        Ok(net)
    }

    fn words(&mut self, words: &[&str]) -> Parsed<()> {
        for word in words {
            if self.word() != Some(word) {
                let found = self.describe();
                return self.fail(self.token.span, format!("expected `{word}`, found {found}"));
            }
            self.bump();
        }
        Ok(())
    }

    pub(super) fn option_word(&mut self, what: &str) -> Parsed<String> {
        if let Kind::Str { text, .. } = &self.token.kind {
            let text = String::from_utf8_lossy(text).into_owned();
            self.bump();
            return Ok(text);
        }
        match self.raw_word(b"{},()", false) {
            Some((text, _)) => Ok(text),
            None => {
                let found = self.describe();
                self.fail(self.token.span, format!("expected {what}, found {found}"))
            }
        }
    }

    /// A socket's text, bare or quoted.
    fn socket_text(&mut self, what: &str) -> Parsed<(String, Span)> {
        if let Kind::Str { text, .. } = &self.token.kind {
            let found = (String::from_utf8_lossy(text).into_owned(), self.token.span);
            self.bump();
            return Ok(found);
        }
        match self.raw_word(b"{}", false) {
            Some(found) => Ok(found),
            None => {
                let found = self.describe();
                self.fail(self.token.span, format!("expected {what}, found {found}"))
            }
        }
    }

    /// Splits `[proto:]host[:ports]`.
    fn split_socket(&mut self, text: &str, at: Span) -> Parsed<(Option<String>, String, Vec<(u16, u16)>)> {
        let lower = text.to_ascii_lowercase();
        let proto = PROTOCOLS
            .iter()
            .find(|p| lower.strip_prefix(**p).is_some_and(|rest| rest.starts_with(':')))
            .map(|p| (*p).to_string());
        let rest = &text[proto.as_ref().map_or(0, |p| p.len() + 1)..];
        if proto.is_none() && !rest.starts_with('[') && rest.matches(':').count() == 2 {
            let word = rest.split(':').next().unwrap_or_default();
            let help = crate::diag::did_you_mean(word, PROTOCOLS).unwrap_or_else(|| PROTOCOLS.join(", "));
            self.error_help(at, format!("`{word}` is no protocol"), help);
            return Err(super::Failed);
        }
        let (host, ports) = match rest.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, tail)) => (host, tail.strip_prefix(':').unwrap_or("")),
                None => return self.fail(at, "`[` is never closed"),
            },
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        if host.is_empty() {
            return self.fail(at, "the address is missing");
        }
        let mut ranges = Vec::new();
        for part in ports.split(',').filter(|p| !p.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            match (low.parse::<u16>(), high.parse::<u16>()) {
                (Ok(low), Ok(high)) if low <= high => ranges.push((low, high)),
                _ => return self.fail(at, format!("`{part}` is no port or range of ports")),
            }
        }
        Ok((proto, host.to_string(), ranges))
    }
}
