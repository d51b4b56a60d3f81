//! Variable notation and format strings, read once at load.
//!
//! `$name`, `$name(inner)` and `$(<context>name(inner)[index]{transformation})`. An inner name with a variable in it is
//! a format string of its own. In text, `$$` is a dollar, and a `$` that begins no variable stands for itself.

use bytes::Bytes;

use super::Compiler;
use crate::diag::{Severity, nearest};
use crate::lex::scan_variable;
use crate::names::{NameUse, Names};
use crate::parse::VarText;
use crate::program::*;
use crate::source::Span;
use crate::transform::Transform;
use crate::value::{Value, parse_int};
use crate::vm::{Context, Host, Index, VarAccess, expand, read};

/// Deepest nesting of variables in one another's notation.
const MAX_NESTING: usize = 16;

/// A format string outside of a script: a module's parameter, say.
#[derive(Debug)]
pub struct Template {
    pool: Pool,
    format: u32,
}

impl Template {
    /// Reads a format string; the error says what is wrong with it.
    pub fn compile(text: &[u8], names: &dyn Names) -> Result<Self, String> {
        let mut pool = Pool::default();
        let mut reader = Reader::new(names, &mut pool);
        let format = reader.format(text);
        match reader.first_error() {
            Some(why) => Err(why),
            None => Ok(Self { pool, format }),
        }
    }

    /// The text when no variable is in it.
    pub fn fixed(&self) -> Option<Bytes> {
        fixed_text(&self.pool, self.format)
    }

    /// The value: of a text that is one variable that variable's own, else the expanded string.
    pub fn value<H: Host>(&self, host: &mut H) -> Value {
        match *self.pool.formats[self.format as usize] {
            [Part::Var(var)] => read(&self.pool, var, host, None),
            _ => Value::Str(expand(&self.pool, self.format, host, None)),
        }
    }

    /// The expanded string; nothing is printed as `<null>`.
    pub fn expand<H: Host>(&self, host: &mut H) -> Bytes {
        expand(&self.pool, self.format, host, None)
    }
}

/// One variable outside of a script: a module's parameter that names an AVP, say.
#[derive(Debug)]
pub struct Variable {
    pool: Pool,
    var: u32,
}

impl Variable {
    /// Reads a variable's notation, with its `$`.
    pub fn compile(text: &str, names: &dyn Names) -> Result<Self, String> {
        let mut pool = Pool::default();
        let mut reader = Reader::new(names, &mut pool);
        let var = reader.variable(text.trim());
        match (var, reader.first_error()) {
            (Some(var), None) => Ok(Self { pool, var }),
            (_, why) => Err(why.unwrap_or_else(|| format!("`{text}` is no variable"))),
        }
    }

    /// How the host knows it, when it is a host's variable with a fixed name and index.
    pub fn access(&self) -> Option<&VarAccess> {
        match &self.pool.vars[self.var as usize].source {
            VarSource::Host { access, name: None, index: None } => Some(access),
            _ => None,
        }
    }

    /// True when it can be assigned.
    pub fn writable(&self) -> bool {
        self.pool.vars[self.var as usize].writable
    }

    /// Its value.
    pub fn value<H: Host>(&self, host: &mut H) -> Value {
        read(&self.pool, self.var, host, None)
    }
}

impl Compiler<'_> {
    pub(super) fn var(&mut self, v: &VarText) -> Option<u32> {
        self.var_text(&v.text, v.span)
    }

    pub(super) fn var_text(&mut self, text: &str, span: Span) -> Option<u32> {
        if let Some(&var) = self.vars.get(text) {
            return Some(var);
        }
        let mut reader = Reader::new(self.names, &mut self.program.pool);
        let var = reader.variable(text);
        let (clean, problems) = (reader.problems.is_empty(), reader.problems);
        self.report(problems, span);
        // One with a warning is read again at its next place, to warn there as well.
        if let (Some(var), true) = (var, clean) {
            self.vars.insert(text.into(), var);
        }
        var
    }

    /// A variable that is assigned.
    pub(super) fn writable(&mut self, v: &VarText) -> Option<u32> {
        let var = self.var(v)?;
        let slot = &self.program.pool.vars[var as usize];
        if !slot.transforms.is_empty() {
            self.error(v.span, "what is assigned has no transformation");
            return None;
        }
        if !slot.writable {
            self.error(v.span, format!("`{}` can only be read", v.text));
            return None;
        }
        Some(var)
    }

    pub(super) fn format(&mut self, text: &Bytes, span: Span) -> u32 {
        if let Some(&format) = self.formats.get(text) {
            return format;
        }
        let mut reader = Reader::new(self.names, &mut self.program.pool);
        let format = reader.format(text);
        let (clean, problems) = (reader.problems.is_empty(), reader.problems);
        self.report(problems, span);
        if clean {
            self.formats.insert(text.clone(), format);
        }
        format
    }

    pub(super) fn fixed_format(&mut self, text: Bytes) -> u32 {
        self.program.pool.add_format(vec![Part::Text(text)])
    }

    pub(super) fn format_of_var(&mut self, var: u32) -> u32 {
        self.program.pool.add_format(vec![Part::Var(var)])
    }

    pub(super) fn fixed_text(&self, format: u32) -> Option<Bytes> {
        fixed_text(&self.program.pool, format)
    }

    fn report(&mut self, problems: Vec<Problem>, span: Span) {
        for p in problems {
            let sources = &self.ast.sources;
            let mut d = sources.diag(p.severity, span, p.message);
            d.help = p.help;
            if let Some((old, new)) = p.rewrite {
                let written = String::from_utf8_lossy(sources.slice(span));
                if let Some(at) = written.find(&old) {
                    let piece = Span { start: span.start + at as u32, len: old.len() as u32 };
                    d.fix = Some(sources.fix(piece, new));
                }
            }
            self.diags.push(d);
        }
    }
}

impl Pool {
    pub(super) fn add_format(&mut self, parts: Vec<Part>) -> u32 {
        self.formats.push(parts.into_boxed_slice());
        self.formats.len() as u32 - 1
    }
}

fn fixed_text(pool: &Pool, format: u32) -> Option<Bytes> {
    match &*pool.formats[format as usize] {
        [] => Some(Bytes::new()),
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    }
}

/// Variables of older releases, and the name and part that stand for them today.
const OLDER: [(&str, &str, Option<&str>); 6] = [
    ("pr", "socket_in", Some("proto")),
    ("proto", "socket_in", Some("proto")),
    ("Ri", "socket_in", Some("ip")),
    ("Rp", "socket_in", Some("port")),
    ("af", "socket_in", Some("af")),
    ("fs", "socket_out", None),
];

struct Problem {
    severity: Severity,
    message: String,
    help: Option<String>,
    /// Notation to be replaced, and by what.
    rewrite: Option<(String, String)>,
}

/// Reads notation into a pool.
pub(crate) struct Reader<'a> {
    names: &'a dyn Names,
    pool: &'a mut Pool,
    problems: Vec<Problem>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(names: &'a dyn Names, pool: &'a mut Pool) -> Self {
        Self { names, pool, problems: Vec::new(), depth: 0 }
    }

    fn first_error(&self) -> Option<String> {
        self.problems.iter().find(|p| p.severity == Severity::Error).map(|p| p.message.clone())
    }

    pub(crate) fn names(&self) -> &'a dyn Names {
        self.names
    }

    pub(crate) fn error(&mut self, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Problem {
            severity: Severity::Error,
            message: message.into(),
            help,
            rewrite: None,
        });
    }

    fn older(&mut self, text: &str, today: String) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            message: format!("`{text}` is an older form"),
            help: Some(format!("today it is `{today}`")),
            rewrite: Some((text.to_owned(), today)),
        });
    }

    /// Reads a format string; what is wrong in it is reported and left out.
    pub(crate) fn format(&mut self, text: &[u8]) -> u32 {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut i = 0;
        while i < text.len() {
            let Some(next) = memchr::memchr(b'$', &text[i..]) else {
                plain.extend_from_slice(&text[i..]);
                break;
            };
            plain.extend_from_slice(&text[i..i + next]);
            i += next;
            match scan_variable(text, i, true) {
                Some(end) if text.get(i + 1) == Some(&b'$') => {
                    plain.push(b'$');
                    i = end;
                }
                Some(end) => {
                    let mut end = end;
                    let mut name = String::from_utf8_lossy(&text[i..end]).into_owned();
                    while self.shorten(&name) {
                        name.truncate(name.rfind('.').unwrap_or(1));
                        end = i + name.len();
                    }
                    if let Some(var) = self.variable(&name) {
                        if !plain.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut plain).into()));
                        }
                        parts.push(Part::Var(var));
                    }
                    i = end;
                }
                None => {
                    if text.get(i + 1) == Some(&b'(') {
                        let rest = String::from_utf8_lossy(&text[i..]).into_owned();
                        self.error(format!("`{rest}`: this variable is never closed"), None);
                    }
                    plain.push(b'$');
                    i += 1;
                }
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        self.pool.add_format(parts)
    }

    /// True when a bare dotted name is unknown as a whole but its beginning is a variable: the dot belongs to the
    /// text around it.
    fn shorten(&self, name: &str) -> bool {
        let bare = &name[1..];
        !bare.contains('(')
            && !bare.starts_with('(')
            && bare.rfind('.').is_some_and(|dot| dot > 0)
            && builtin(bare).is_none()
            && self.names.variable(bare).is_none()
    }

    /// Reads one variable with its `$`.
    pub(crate) fn variable(&mut self, text: &str) -> Option<u32> {
        if self.depth >= MAX_NESTING {
            self.error(format!("variables nested more than {MAX_NESTING} deep"), None);
            return None;
        }
        self.depth += 1;
        let var = self.variable_inner(text);
        self.depth -= 1;
        var
    }

    fn variable_inner(&mut self, text: &str) -> Option<u32> {
        let mut notation = match Notation::parse(text) {
            Ok(n) => n,
            Err(why) => {
                self.error(format!("`{text}`: {why}"), None);
                return None;
            }
        };
        let older = OLDER.iter().find(|o| o.0 == notation.name && notation.inner.is_none());
        if let Some(&(old, name, inner)) = older.filter(|o| self.names.variable(o.1).is_some()) {
            (notation.name, notation.inner) = (name, inner);
            let today = inner.map_or(name.to_owned(), |i| format!("{name}({i})"));
            self.older(text, text.replacen(old, &today, 1));
        }
        let mut transforms = Vec::new();
        for t in &notation.transforms {
            match Transform::parse(t, self) {
                Ok(t) => transforms.push(t),
                Err(why) => {
                    self.error(format!("`{{{t}}}`: {why}"), None);
                    return None;
                }
            }
        }
        let index = match notation.index.map(str::trim) {
            None => IndexPlan::Fixed(Index::None),
            Some("*") => IndexPlan::Fixed(Index::All),
            Some("append") => IndexPlan::Fixed(Index::Append),
            Some(var) if var.starts_with('$') => IndexPlan::Computed(self.variable(var)?),
            Some(n) => match parse_int(n.as_bytes()).and_then(|n| i32::try_from(n).ok()) {
                Some(n) => IndexPlan::Fixed(Index::At(n)),
                None => {
                    self.error(format!("`[{n}]` is no index"), Some("a number, a variable or `*`".into()));
                    return None;
                }
            },
        };
        let (source, writable) = match builtin(notation.name) {
            Some(b) => (self.builtin(b, &notation, index)?, false),
            None => self.host_variable(text, &notation, index)?,
        };
        self.pool.vars.push(VarSlot { source, transforms: transforms.into(), writable, text: text.into() });
        Some(self.pool.vars.len() as u32 - 1)
    }

    fn builtin(&mut self, b: Builtin, n: &Notation<'_>, index: IndexPlan) -> Option<VarSource> {
        let fixed = match index {
            IndexPlan::Fixed(index) => index,
            IndexPlan::Computed(_) => {
                self.error(format!("`${}` takes a fixed index", n.name), None);
                return None;
            }
        };
        Some(match b {
            Builtin::Param => VarSource::Param(self.param_key(n)?),
            Builtin::Return => VarSource::Return(self.param_key(n)?),
            Builtin::Rc => VarSource::Rc,
            Builtin::Route(part) => VarSource::Route(part, fixed),
            Builtin::CfgLine => VarSource::CfgLine,
            Builtin::CfgFile => VarSource::CfgFile,
        })
    }

    fn param_key(&mut self, n: &Notation<'_>) -> Option<ParamKey> {
        let Some(inner) = n.inner.map(str::trim) else {
            self.error(format!("`${}` needs a number or name: `${}(1)`", n.name, n.name), None);
            return None;
        };
        if let Some(i) = parse_int(inner.as_bytes()) {
            return Some(ParamKey::At(i));
        }
        if inner.contains('$') {
            return Some(ParamKey::Computed(self.format(inner.as_bytes())));
        }
        Some(ParamKey::Named(Bytes::from(inner.to_string())))
    }

    fn host_variable(&mut self, text: &str, n: &Notation<'_>, index: IndexPlan) -> Option<(VarSource, bool)> {
        let Some(info) = self.names.variable(n.name) else {
            let all = self.names.all_variables();
            let own = [
                "param",
                "return",
                "rc",
                "retcode",
                "route",
                "route.name",
                "route.type",
                "cfg_line",
                "cfg_file",
            ];
            let help = match nearest(n.name, all.iter().map(String::as_str).chain(own)) {
                Some(name) => format!("did you mean `${name}`?"),
                None => (self.names.elsewhere(&format!("${}", n.name)))
                    .unwrap_or_else(|| "is the module that has it loaded?".into()),
            };
            self.error(format!("there is no variable `${}`", n.name), Some(help));
            return None;
        };
        if let Some(today) = info.renamed_to {
            self.older(text, text.replacen(n.name, today, 1));
        }
        let mut access =
            VarAccess { id: info.id, key: None, name: None, index: Index::None, context: n.context };
        let mut name = None;
        match (n.inner, info.named) {
            (Some(_), NameUse::None) => {
                self.error(format!("`${}` takes no name in parentheses", n.name), None);
                return None;
            }
            (None, NameUse::Required) => {
                self.error(format!("`${}` needs a name: `${}(name)`", n.name, n.name), None);
                return None;
            }
            (None, _) => {}
            (Some(inner), _) => match self.inner_name(inner) {
                Some(format) => name = Some(format),
                None => match self.names.bind_name(info.id, inner) {
                    Ok(key) => access.key = Some(key),
                    Err(why) => {
                        self.error(format!("`{text}`: {why}"), None);
                        return None;
                    }
                },
            },
        }
        let mut computed = None;
        match index {
            IndexPlan::Fixed(Index::None) => {}
            _ if !info.indexed => {
                self.error(format!("`${}` has no index", n.name), None);
                return None;
            }
            IndexPlan::Fixed(index) => access.index = index,
            IndexPlan::Computed(var) => computed = Some(var),
        }
        Some((VarSource::Host { access, name, index: computed }, info.writable))
    }

    /// The format of an inner name that has a variable in it.
    fn inner_name(&mut self, inner: &str) -> Option<u32> {
        let bytes = inner.as_bytes();
        let dynamic = memchr::memchr_iter(b'$', bytes).any(|i| scan_variable(bytes, i, true).is_some());
        dynamic.then(|| self.format(bytes))
    }
}

enum IndexPlan {
    Fixed(Index),
    Computed(u32),
}

#[derive(Clone, Copy)]
enum Builtin {
    Param,
    Return,
    Rc,
    Route(RoutePart),
    CfgLine,
    CfgFile,
}

fn builtin(name: &str) -> Option<Builtin> {
    Some(match name {
        "param" => Builtin::Param,
        "return" => Builtin::Return,
        "rc" | "retcode" => Builtin::Rc,
        "route" => Builtin::Route(RoutePart::Whole),
        "route.name" => Builtin::Route(RoutePart::Name),
        "route.type" => Builtin::Route(RoutePart::Type),
        "cfg_line" => Builtin::CfgLine,
        "cfg_file" => Builtin::CfgFile,
        _ => return None,
    })
}

/// The parts of a variable's notation.
#[derive(Debug, PartialEq)]
struct Notation<'a> {
    context: Context,
    name: &'a str,
    inner: Option<&'a str>,
    index: Option<&'a str>,
    transforms: Vec<&'a str>,
}

impl<'a> Notation<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let body = text.strip_prefix('$').ok_or("a variable begins with `$`")?;
        let (whole, mut rest) = match body.strip_prefix('(') {
            Some(b) => (true, b.strip_suffix(')').ok_or("the parenthesis is never closed")?.trim()),
            None => (false, body),
        };
        // `$($var(x))` is met in older scripts and means the variable itself.
        rest = rest.strip_prefix('$').filter(|_| whole).unwrap_or(rest);
        let mut context = Context::Current;
        if let Some(tail) = rest.strip_prefix('<') {
            let (word, tail) = tail.split_once('>').ok_or("`<` is never closed")?;
            context = match word.trim() {
                "request" => Context::Request,
                "reply" => Context::Reply,
                other => return Err(format!("`<{other}>` is neither `<request>` nor `<reply>`")),
            };
            rest = tail.trim_start();
        }
        let end = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
        let (name, mut rest) = rest.split_at(end);
        if name.is_empty() {
            return Err("the variable's name is missing".into());
        }
        let mut found = Self { context, name, inner: None, index: None, transforms: Vec::new() };
        if rest.starts_with('(') {
            let end = closing(rest, b'(', b')').ok_or("the parenthesis is never closed")?;
            found.inner = Some(&rest[1..end]);
            rest = rest[end + 1..].trim_start();
        }
        if whole && rest.starts_with('[') {
            let end = closing(rest, b'[', b']').ok_or("the index is never closed")?;
            found.index = Some(&rest[1..end]);
            rest = rest[end + 1..].trim_start();
        }
        while whole && rest.starts_with('{') {
            let end = closing(rest, b'{', b'}').ok_or("the transformation is never closed")?;
            found.transforms.push(&rest[1..end]);
            rest = rest[end + 1..].trim_start();
        }
        if !rest.is_empty() {
            return Err(format!("`{rest}` does not belong there"));
        }
        Ok(found)
    }
}

/// The index of the bracket that closes the one `text` begins with.
fn closing(text: &str, open: u8, close: u8) -> Option<usize> {
    let mut depth = 0usize;
    for (i, b) in text.bytes().enumerate() {
        if b == open {
            depth += 1;
        } else if b == close {
            depth -= 1;
            if depth == 0 {
                return Some(i);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_is_split_into_its_parts() {
        let n = Notation::parse("$(<reply>hdr(X-A)[-1]{s.select,1,,}{s.len})").unwrap();
        assert_eq!(n.context, Context::Reply);
        assert_eq!((n.name, n.inner, n.index), ("hdr", Some("X-A"), Some("-1")));
        assert_eq!(n.transforms, ["s.select,1,,", "s.len"]);
        let n = Notation::parse("$avp($var(x))").unwrap();
        assert_eq!((n.name, n.inner), ("avp", Some("$var(x)")));
        assert!(Notation::parse("$(ru").is_err());
        assert!(Notation::parse("$()").is_err());
        assert!(Notation::parse("$(ru]x)").is_err());
    }
}
