//! Destination blacklists: `dst_blacklist` of the script, rules added while it runs, and which lists a message heeds.
//!
//! A request is not sent to a place that a rule of one of its lists names; the next place of the URI is tried instead.
//! Left out: the list that fills itself with places that do not answer (`disable_dns_blacklist=no`).

use std::net::SocketAddr;

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::{Value as Json, json};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::ports::net::Proto;
use switchroom_script::net::Network;
use switchroom_script::parse::ast::BlacklistDef;
use switchroom_wire::sip::scan::ip_literal;

use super::locate::Hops;
use super::state::Core;

/// How many rules one list may hold.
const MAX_RULES: usize = 100_000;
/// How many lists there are at most: a message keeps those it heeds as bits.
const MAX_LISTS: usize = 64;

/// All lists, in the order of the script.
#[derive(Default)]
pub struct Blacklists {
    lists: Vec<List>,
}

struct List {
    name: String,
    /// Its rules are those of the script and stay.
    read_only: bool,
    /// Heeded by every message that does not say otherwise.
    default: bool,
    rules: RwLock<Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    negated: bool,
    net: Network,
    proto: Option<Proto>,
    /// 0 for any.
    port: u16,
    /// Shell pattern over the request; empty for any.
    pattern: Bytes,
    /// Seconds since the epoch; 0 for never.
    expires: u64,
}

impl Rule {
    fn hits(&self, proto: Option<Proto>, addr: SocketAddr, text: &[u8], now: u64) -> bool {
        let alive = self.expires == 0 || now < self.expires;
        let place = self.net.contains(addr.ip())
            && (self.port == 0 || self.port == addr.port())
            && (self.proto.is_none() || proto.is_none() || self.proto == proto)
            && (self.pattern.is_empty() || glob(&self.pattern, text));
        alive && place != self.negated
    }

    fn same(&self, other: &Rule) -> bool {
        Rule { expires: 0, ..self.clone() } == Rule { expires: 0, ..other.clone() }
    }

    fn show(&self) -> Json {
        json!({
            "Rule": format!("{}{}/{}", if self.negated { "!" } else { "" }, self.net.ip, self.net.bits),
            "Proto": self.proto.map_or("any", Proto::name),
            "Port": self.port,
            "Match": String::from_utf8_lossy(&self.pattern),
            "Expires": self.expires,
        })
    }
}

/// Lists that a message heeds, as bits; kept with the message once it differs from the default.
struct Heeded(u64);

impl Blacklists {
    /// From the definitions of a script.
    pub fn new(defs: &[BlacklistDef]) -> Result<Blacklists, String> {
        if defs.len() > MAX_LISTS {
            return Err(format!("more than {MAX_LISTS} blacklists"));
        }
        let mut lists: Vec<List> = Vec::with_capacity(defs.len());
        for def in defs {
            if lists.iter().any(|l| l.name == def.name) {
                return Err(format!("dst_blacklist `{}` is there twice", def.name));
            }
            let rules = def.rules.iter().map(|r| {
                let proto = match r.proto.as_deref() {
                    None => None,
                    Some(p) => Some(Proto::parse(p).ok_or(format!("dst_blacklist: no transport `{p}`"))?),
                };
                let (negated, net) = (r.negated, r.net);
                Ok(Rule { negated, net, proto, port: r.port, pattern: r.pattern.clone(), expires: 0 })
            });
            let has = |option: &str| def.options.iter().any(|o| o == option);
            lists.push(List {
                name: def.name.clone(),
                // Without any option a list is that of the script for good.
                read_only: def.options.is_empty() || has("readonly") || has("read-only"),
                default: has("default"),
                rules: RwLock::new(rules.collect::<Result<_, String>>()?),
            });
        }
        Ok(Blacklists { lists })
    }

    fn find(&self, name: &str) -> Option<(usize, &List)> {
        self.lists.iter().enumerate().find(|(_, l)| l.name == name)
    }

    fn defaults(&self) -> u64 {
        self.lists.iter().enumerate().filter(|(_, l)| l.default).fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Take away the places that a message may not be sent to.
    pub fn filter(&self, ctx: &Ctx, hops: &mut Hops) {
        if self.lists.is_empty() {
            return;
        }
        let mask = ctx.note::<Heeded>().map_or_else(|| self.defaults(), |h| h.0);
        if mask == 0 {
            return;
        }
        let now = ctx.shard.kernel.unix();
        let text = ctx.request().map_or(&[][..], |m| m.raw());
        let heeded = || self.lists.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, l)| l);
        hops.retain(|hop| {
            !heeded().any(|l| l.rules.read().iter().any(|r| r.hits(Some(hop.proto), hop.addr, text, now)))
        });
    }
}

/// `*`, `?` and plain bytes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn heed(c: &mut Call<'_>, yes: bool) -> Flow {
    let name = c.text(0);
    let shard = c.ctx.shard.clone();
    let lists = &shard.kernel.state::<Core>().blacklists;
    let Some((i, _)) = lists.find(&name) else {
        tracing::error!("there is no dst_blacklist `{name}`");
        return FALSE;
    };
    let mask = c.ctx.note::<Heeded>().map_or_else(|| lists.defaults(), |h| h.0);
    c.ctx.add_note(Heeded(if yes { mask | 1 << i } else { mask & !(1 << i) }));
    TRUE
}

/// `use_blacklist(name)`
pub fn use_blacklist(c: &mut Call<'_>) -> Flow {
    heed(c, true)
}

/// `unuse_blacklist(name)`
pub fn unuse_blacklist(c: &mut Call<'_>) -> Flow {
    heed(c, false)
}

/// A rule as functions and commands write it.
struct Written {
    list: String,
    rule: String,
    port: i64,
    proto: String,
    pattern: Bytes,
    expire: i64,
}

impl Written {
    fn of(c: &Call<'_>) -> Written {
        Written {
            list: c.text(0),
            rule: c.text(1),
            port: c.int(2).unwrap_or(0),
            proto: c.text(3),
            pattern: c.str(4).cloned().unwrap_or_default(),
            expire: c.int(5).unwrap_or(0),
        }
    }

    fn read(&self, now: u64) -> Result<Rule, String> {
        let (negated, net) = match self.rule.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, self.rule.as_str()),
        };
        if net.contains(',') {
            return self.read_whole(negated, net, now);
        }
        let net = Network::parse(net.as_bytes())
            .ok_or_else(|| format!("\"{}\" is no address or network such as 10.0.0.0/8", self.rule))?;
        let port = u16::try_from(self.port).map_err(|_| "a port is 0 to 65535".to_owned())?;
        let proto = match self.proto.as_str() {
            "" | "any" => None,
            p => Some(Proto::parse(p).ok_or_else(|| format!("there is no transport `{p}`"))?),
        };
        let expires = if self.expire > 0 { now + self.expire as u64 } else { 0 };
        Ok(Rule { negated, net, proto, port, pattern: self.pattern.clone(), expires })
    }

    /// A rule as the script's `dst_blacklist` has it: `[protocol,] network [, port [, pattern]]`.
    fn read_whole(&self, negated: bool, text: &str, now: u64) -> Result<Rule, String> {
        let mut parts = text.splitn(4, ',').map(str::trim).peekable();
        let proto = match parts.peek().copied() {
            Some(first) if Network::parse(first.as_bytes()).is_none() => {
                parts.next();
                first
            }
            _ => "",
        };
        let net = parts.next().unwrap_or_default();
        let port = match parts.next() {
            Some(port) => port.parse().map_err(|_| "a port is 0 to 65535".to_owned())?,
            None => self.port,
        };
        let pattern = parts.map(|p| p.trim_matches('"')).collect::<Vec<_>>().join(",");
        let one = Written {
            list: String::new(),
            rule: format!("{}{net}", if negated { "!" } else { "" }),
            port,
            proto: proto.to_ascii_lowercase(),
            pattern: if pattern.is_empty() { self.pattern.clone() } else { pattern.into() },
            expire: self.expire,
        };
        one.read(now)
    }

    fn add(&self, lists: &Blacklists, now: u64) -> Result<(), String> {
        let rule = self.read(now)?;
        let list = self.writable(lists)?;
        let mut rules = list.rules.write();
        rules.retain(|r| !r.same(&rule) && (r.expires == 0 || r.expires > now));
        if rules.len() >= MAX_RULES {
            return Err(format!("list `{}` is full", self.list));
        }
        rules.push(rule);
        Ok(())
    }

    fn remove(&self, lists: &Blacklists, now: u64) -> Result<bool, String> {
        let rule = self.read(now)?;
        let list = self.writable(lists)?;
        let mut rules = list.rules.write();
        let before = rules.len();
        rules.retain(|r| !r.same(&rule));
        Ok(rules.len() < before)
    }

    fn writable<'a>(&self, lists: &'a Blacklists) -> Result<&'a List, String> {
        match lists.find(&self.list) {
            None => Err(format!("there is no dst_blacklist `{}`", self.list)),
            Some((_, l)) if l.read_only => Err(format!("list `{}` is read-only", self.list)),
            Some((_, l)) => Ok(l),
        }
    }

    /// Whether the place is in the list.
    fn check(&self, lists: &Blacklists, now: u64) -> Result<bool, String> {
        let Some((_, list)) = lists.find(&self.list) else {
            return Err(format!("there is no dst_blacklist `{}`", self.list));
        };
        let ip =
            ip_literal(self.rule.as_bytes()).ok_or_else(|| format!("\"{}\" is no address", self.rule))?;
        let place = self.read(now)?;
        let addr = SocketAddr::new(ip, place.port);
        Ok(list.rules.read().iter().any(|r| r.hits(place.proto, addr, &self.pattern, now)))
    }
}

fn run(c: &Call<'_>, what: fn(&Written, &Blacklists, u64) -> Result<bool, String>) -> Flow {
    let kernel = &c.ctx.shard.kernel;
    match what(&Written::of(c), &kernel.state::<Core>().blacklists, kernel.unix()) {
        Ok(true) => TRUE,
        Ok(false) => FALSE,
        Err(e) => {
            tracing::error!("{e}");
            FALSE
        }
    }
}

/// `check_blacklist_rule(list, ip[, port][, proto][, text])`
pub fn check_rule(c: &mut Call<'_>) -> Flow {
    run(c, Written::check)
}

/// `add_blacklist_rule(list, rule[, port][, proto][, pattern][, expire])`
pub fn add_rule(c: &mut Call<'_>) -> Flow {
    run(c, |w, lists, now| w.add(lists, now).map(|()| true))
}

/// `del_blacklist_rule(list, rule[, port][, proto][, pattern])`
pub fn del_rule(c: &mut Call<'_>) -> Flow {
    run(c, Written::remove)
}

fn written(call: &CommandCall) -> Result<Written, CommandError> {
    // Given by position, a protocol may stand before the address: `udp 127.0.0.1 5060`.
    if let Some(proto) = call.text("ip").filter(|p| p == "any" || Proto::parse(p).is_some()) {
        return Ok(Written {
            list: call.text("name").unwrap_or_default(),
            rule: call.text("port").unwrap_or_default(),
            port: call.int("proto")?.unwrap_or(0),
            proto,
            pattern: call.text("pattern").unwrap_or_default().into(),
            expire: 0,
        });
    }
    Ok(Written {
        list: call.text("name").unwrap_or_default(),
        rule: call.text("rule").or_else(|| call.text("ip")).unwrap_or_default(),
        port: call.int("port")?.unwrap_or(0),
        proto: call.text("proto").unwrap_or_default(),
        pattern: call.text("pattern").unwrap_or_default().into(),
        expire: call.int("expire")?.unwrap_or(0),
    })
}

fn answer(
    call: &CommandCall,
    what: fn(&Written, &Blacklists, u64) -> Result<bool, String>,
) -> Result<bool, CommandError> {
    let w = written(call)?;
    let kernel = &call.kernel;
    what(&w, &kernel.state::<Core>().blacklists, kernel.unix()).map_err(|e| CommandError::new(400, e))
}

fn list(call: &CommandCall) -> CommandResult {
    let wanted = call.text("name");
    let lists = &call.kernel.state::<Core>().blacklists.lists;
    let rows = lists.iter().filter(|l| wanted.as_deref().is_none_or(|w| w == l.name)).map(|l| {
        let rules: Vec<Json> = l.rules.read().iter().map(Rule::show).collect();
        json!({"name": l.name, "readonly": l.read_only, "default": l.default, "Rules": rules})
    });
    Ok(json!({"Blacklists": rows.collect::<Vec<_>>()}))
}

fn check_all(call: &CommandCall) -> CommandResult {
    let mut w = written(call)?;
    let (lists, now) = (&call.kernel.state::<Core>().blacklists, call.kernel.unix());
    let mut hit = Vec::new();
    for l in &lists.lists {
        w.list.clone_from(&l.name);
        if w.check(lists, now).map_err(|e| CommandError::new(400, e))? {
            hit.push(l.name.clone());
        }
    }
    Ok(json!(hit))
}

/// `blacklists:list`
pub const LIST: Command = Command {
    name: "blacklists:list",
    old_names: &["list_blacklists", "list_blacklist"],
    args: "[name]",
    help: "Blacklists and their rules",
    run: |call| Box::pin(async move { list(&call) }),
};

/// `blacklists:check_all`
pub const CHECK_ALL: Command = Command {
    name: "blacklists:check_all",
    old_names: &["check_blacklists"],
    args: "ip,[port],[proto],[pattern]",
    help: "Names of the lists that a place is in",
    run: |call| Box::pin(async move { check_all(&call) }),
};

/// `blacklists:check`
pub const CHECK: Command = Command {
    name: "blacklists:check",
    old_names: &["check_blacklist"],
    args: "name,ip,[port],[proto],[pattern]",
    help: "Whether a place is in a list",
    run: |call| {
        Box::pin(async move {
            match answer(&call, Written::check)? {
                true => Ok(json!("OK")),
                false => Err(CommandError::new(404, "not in the list")),
            }
        })
    },
};

/// `blacklists:add_rule`
pub const ADD: Command = Command {
    name: "blacklists:add_rule",
    old_names: &["add_blacklist_rule"],
    args: "name,rule,[expire],[port],[proto],[pattern]",
    help: "Add a rule to a list",
    run: |call| {
        Box::pin(async move {
            answer(&call, |w, lists, now| w.add(lists, now).map(|()| true))?;
            Ok(json!("OK"))
        })
    },
};

/// `blacklists:del_rule`
pub const REMOVE: Command = Command {
    name: "blacklists:del_rule",
    old_names: &["del_blacklist_rule"],
    args: "name,rule,[port],[proto],[pattern]",
    help: "Remove a rule from a list",
    run: |call| {
        Box::pin(async move {
            match answer(&call, Written::remove)? {
                true => Ok(json!("OK")),
                false => Err(CommandError::new(404, "there is no such rule")),
            }
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_in_one_text_too() {
        let l = lists(&["expire"]);
        rule("tcp,127.0.0.1,5060", 0, "", 10).add(&l, 100).unwrap();
        assert_eq!(rule("127.0.0.1", 5060, "tcp", 0).check(&l, 100), Ok(true));
        assert_eq!(rule("127.0.0.1", 5060, "udp", 0).check(&l, 100), Ok(false));
        assert_eq!(rule("tcp,127.0.0.1,5060", 0, "", 0).remove(&l, 100), Ok(true));
        assert!(rule("carrier,127.0.0.1,5060", 0, "", 0).add(&l, 100).unwrap_err().contains("carrier"));
    }

    fn lists(options: &[&str]) -> Blacklists {
        let def = BlacklistDef {
            name: "gw".into(),
            options: options.iter().map(ToString::to_string).collect(),
            rules: Vec::new(),
        };
        Blacklists::new(&[def]).unwrap()
    }

    fn rule(text: &str, port: i64, proto: &str, expire: i64) -> Written {
        let (list, rule, proto) = ("gw".into(), text.into(), proto.into());
        Written { list, rule, port, proto, pattern: Bytes::new(), expire }
    }

    #[test]
    fn a_rule_is_added_checked_and_removed() {
        let l = lists(&["expire"]);
        rule("10.0.0.0/8", 5060, "udp", 0).add(&l, 100).unwrap();
        assert_eq!(rule("10.1.2.3", 5060, "udp", 0).check(&l, 100), Ok(true));
        assert_eq!(rule("10.1.2.3", 5061, "udp", 0).check(&l, 100), Ok(false));
        assert_eq!(rule("10.1.2.3", 5060, "tcp", 0).check(&l, 100), Ok(false));
        assert_eq!(rule("10.0.0.0/8", 5060, "udp", 0).remove(&l, 100), Ok(true));
        assert_eq!(rule("10.1.2.3", 5060, "udp", 0).check(&l, 100), Ok(false));
    }

    #[test]
    fn a_rule_with_an_end_is_over_then_and_a_read_only_list_stays() {
        let l = lists(&["expire"]);
        rule("192.0.2.1", 0, "", 10).add(&l, 100).unwrap();
        assert_eq!(rule("192.0.2.1", 0, "", 0).check(&l, 109), Ok(true));
        assert_eq!(rule("192.0.2.1", 0, "", 0).check(&l, 110), Ok(false));
        assert!(rule("192.0.2.1", 0, "", 0).add(&lists(&[]), 1).unwrap_err().contains("read-only"));
        assert!(rule("here", 0, "", 0).add(&l, 1).unwrap_err().contains("10.0.0.0/8"));
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        assert!(glob(b"INVITE*bob*", b"INVITE sip:bob@example.org SIP/2.0"));
        assert!(!glob(b"BYE*", b"INVITE sip:bob@example.org SIP/2.0"));
        assert!(glob(b"?NVITE*0", b"INVITE sip:bob@example.org SIP/2.0"));
    }
}
