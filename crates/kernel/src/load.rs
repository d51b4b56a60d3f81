//! From the text of a configuration to something that can be started: parsed, its modules found and ordered, their
//! parameters checked, every name resolved. Nothing is opened yet, so this is also the whole of `check`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use switchroom_script::diag::{self, Diagnostic, Severity};
use switchroom_script::parse::ast::{Ast, BlacklistDef, GlobalValue, ParamValue, SocketDef};
use switchroom_script::source::Span;
use switchroom_script::{DiskLoader, Loader, Program};

use crate::absent;
use crate::kernel::Alias;
use crate::module::{Module, ParamKind};
use crate::ports::net::Proto;
use crate::registry::Registry;
use crate::settings::{self, Setting, Settings};

/// Parameters of one module as given, in order.
pub type Given = Vec<(String, Setting)>;

/// A checked configuration.
pub struct Loaded {
    /// All exports of its modules.
    pub registry: Registry,
    /// Its routes.
    pub program: Program,
    /// Core parameters.
    pub settings: Settings,
    /// Modules in order of start, with their parameters.
    pub params: BTreeMap<&'static str, Given>,
    /// Sockets as written.
    pub sockets: Vec<SocketDef>,
    /// Sockets of transports that modules serve.
    pub listens: Vec<SocketDef>,
    /// Aliases as written.
    pub aliases: Vec<Alias>,
    /// Destination blacklists as written.
    pub blacklists: Vec<BlacklistDef>,
    /// What deserves a look.
    pub warnings: Vec<Diagnostic>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(String),
    /// A text with a name for messages.
    Text(String, Arc<[u8]>),
}

impl Source {
    fn parse(&self) -> Result<(Ast, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut disk = DiskLoader;
        match self {
            Source::Text(name, text) => {
                Ok(switchroom_script::parse(name, text, &mut disk as &mut dyn Loader))
            }
            Source::File(path) => switchroom_script::parse_file(path, &mut disk).map_err(|message| {
                vec![Diagnostic {
                    severity: Severity::Error,
                    file: Arc::from(path.as_str()),
                    line: 1,
                    column: 1,
                    length: 1,
                    message,
                    help: None,
                    source_line: String::new(),
                    fix: None,
                }]
            }),
        }
    }
}

/// Load and check a configuration against the `catalogue` of modules; those in `always` need no `loadmodule`. All errors
/// come at once, in the order of the text.
pub fn load(
    source: &Source,
    catalogue: &[&'static Module],
    always: &[&str],
) -> Result<Loaded, Vec<Diagnostic>> {
    let (ast, diags) = source.parse()?;
    let mut checker = Checker { ast: &ast, catalogue, diags };
    let settings = checker.settings();
    let modules = checker.modules(always);
    let params = checker.params(&modules);
    let (sockets, listens) = checker.sockets(&modules);
    let aliases = checker.aliases();
    let blacklists = checker.blacklists();
    let mut diags = checker.diags;
    let registry = Registry::new(modules).among(catalogue);
    // Flags keep the bits that their order of appearance gives them, so routes are compiled before modules open.
    let program = match switchroom_script::compile(&ast, &registry) {
        Ok((program, warnings)) => {
            diags.extend(warnings);
            Some(program)
        }
        Err(all) => {
            diags.extend(all);
            None
        }
    };
    diag::sort(&mut diags);
    match program {
        Some(mut program) if !diags.iter().any(Diagnostic::is_error) => {
            let mut limits = program.limits();
            limits.while_rounds = settings.int("max_while_loops").clamp(1, i64::from(u32::MAX)) as u32;
            program.set_limits(limits);
            let warnings = diags;
            Ok(Loaded {
                registry,
                program,
                settings,
                params,
                sockets,
                listens,
                aliases,
                blacklists,
                warnings,
            })
        }
        _ => Err(diags),
    }
}

/// What works in a script but deserves a look; errors in it are left to [`load`].
pub fn lint(source: &Source) -> Vec<Diagnostic> {
    source.parse().map_or_else(|_| Vec::new(), |(ast, _)| switchroom_script::lint::lint(&ast))
}

/// Read only the routes again, against modules that run already (`reload_routes`).
pub fn reload(source: &Source, registry: &Registry) -> Result<(Program, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (ast, mut diags) = source.parse()?;
    if diags.iter().any(Diagnostic::is_error) {
        return Err(diags);
    }
    match switchroom_script::compile(&ast, registry) {
        Ok((program, warnings)) => {
            diags.extend(warnings);
            Ok((program, diags))
        }
        Err(all) => {
            diags.extend(all);
            diag::sort(&mut diags);
            Err(diags)
        }
    }
}

/// Modules of older releases whose work is done without any.
const GONE: [(&str, &str); 3] = [
    ("event_route", "an `event_route` needs no module"),
    ("xlog", "`xlog()` needs no module"),
    ("print", "it only ever was an example"),
];

struct Checker<'a> {
    ast: &'a Ast,
    catalogue: &'a [&'static Module],
    diags: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn say(&mut self, severity: Severity, span: Span, message: impl Into<String>, help: Option<String>) {
        let d = self.ast.sources.diag(severity, span, message);
        self.diags.push(match help {
            Some(help) => d.help(help),
            None => d,
        });
    }

    /// A warning with the text that replaces a piece.
    fn say_fix(&mut self, span: Span, message: String, help: Option<String>, at: Span, text: String) {
        let mut d = self.ast.sources.diag(Severity::Warning, span, message);
        d.help = help;
        self.diags.push(d.fixed_by(self.ast.sources.fix(at, text)));
    }

    fn settings(&mut self) -> Settings {
        let mut settings = Settings::default();
        for g in &self.ast.globals {
            let value = match &g.value {
                GlobalValue::Int(i) => Setting::Int(*i),
                GlobalValue::Str(s) => Setting::Str(String::from_utf8_lossy(s).into_owned()),
                _ => continue,
            };
            match settings.assign(&g.name, value) {
                Ok(None) => {}
                Ok(Some(warning)) => self.say(Severity::Warning, g.span, warning, None),
                Err(error) => {
                    let help = match settings::global(&g.name) {
                        Some(_) => None,
                        None => diag::did_you_mean(&g.name, settings::GLOBALS.iter().map(|g| g.name)),
                    };
                    self.say(Severity::Error, g.span, error, help);
                }
            }
        }
        settings
    }

    fn find(&self, name: &str) -> Option<&'static Module> {
        let by_name = self.catalogue.iter().find(|m| m.name == name);
        by_name.or_else(|| self.catalogue.iter().find(|m| m.old_names.contains(&name))).copied()
    }

    /// Modules in order of start: as written, those that others need before them.
    fn modules(&mut self, always: &[&str]) -> Vec<&'static Module> {
        let mut wanted: Vec<(&'static Module, Option<Span>)> = Vec::new();
        for name in always {
            wanted.extend(self.find(name).map(|m| (m, None)));
        }
        for line in &self.ast.modules {
            match self.find(&line.name) {
                Some(m) => {
                    if m.name != line.name {
                        let text = format!("module `{}` is called `{}` today", line.name, m.name);
                        let file = line.path.rsplit('/').next().unwrap_or_default();
                        let folder = line.path.strip_suffix(file).unwrap_or_default();
                        let end = if file.ends_with(".so") { ".so" } else { "" };
                        let new = format!("\"{folder}{}{end}\"", m.name);
                        self.say_fix(
                            line.span,
                            text,
                            Some(format!("write loadmodule {new}")),
                            line.span,
                            new,
                        );
                    }
                    if !wanted.iter().any(|(w, _)| w.name == m.name) {
                        wanted.push((m, Some(line.span)));
                    }
                }
                None if GONE.iter().any(|(name, _)| *name == line.name) => {
                    let why =
                        GONE.iter().find(|(name, _)| *name == line.name).map(|(_, why)| (*why).to_owned());
                    let text = format!("module `{}` is not needed any more", line.name);
                    self.say_fix(line.span, text, why, line.whole, String::new());
                }
                None => {
                    let near = || diag::did_you_mean(&line.name, self.catalogue.iter().map(|m| m.name));
                    let help = absent::advice(&line.name).or_else(near);
                    let text = format!("there is no module `{}`", line.name);
                    self.say(Severity::Error, line.span, text, help);
                }
            }
        }
        let mut at = 0;
        while let Some((m, span)) = wanted.get(at).copied() {
            for need in m.needs {
                if wanted.iter().any(|(w, _)| w.name == *need) {
                    continue;
                }
                if let Some(found) = self.find(need) {
                    if let Some(span) = span {
                        let text = format!("module `{}` needs `{need}`, which is loaded for it", m.name);
                        let help = format!("write loadmodule \"{need}.so\" before it");
                        self.say(Severity::Warning, span, text, Some(help));
                    }
                    wanted.push((found, span));
                }
            }
            at += 1;
        }
        order(wanted.into_iter().map(|(m, _)| m).collect())
    }

    fn params(&mut self, modules: &[&'static Module]) -> BTreeMap<&'static str, Given> {
        let mut given: BTreeMap<&'static str, Given> = modules.iter().map(|m| (m.name, Vec::new())).collect();
        for line in &self.ast.params {
            let named = |m: &Module| line.is_for(m.name) || m.old_names.iter().any(|o| line.is_for(o));
            let meant: Vec<&'static Module> = modules.iter().copied().filter(|m| named(m)).collect();
            if meant.is_empty() && GONE.iter().any(|(name, _)| *name == line.module) {
                let text = format!("module `{}` is not needed any more", line.module);
                self.say_fix(line.module_span, text, None, line.whole, String::new());
                continue;
            }
            if meant.is_empty() {
                let exists = self.catalogue.iter().any(|m| named(m));
                let (text, help) = match exists {
                    true => (
                        format!("module `{}` is not loaded", line.module),
                        Some(format!("write loadmodule \"{}.so\" above", line.module)),
                    ),
                    false => (
                        format!("there is no module `{}`", line.module),
                        absent::advice(&line.module).or_else(|| {
                            diag::did_you_mean(&line.module, self.catalogue.iter().map(|m| m.name))
                        }),
                    ),
                };
                self.say(Severity::Error, line.module_span, text, help);
                continue;
            }
            if let [m] = meant[..]
                && m.old_names.contains(&line.module.as_str())
            {
                let text = format!("module `{}` is called `{}` today", line.module, m.name);
                self.say_fix(line.module_span, text, None, line.module_span, format!("\"{}\"", m.name));
            }
            for m in meant {
                let value = match &line.value {
                    ParamValue::Int(i) => Setting::Int(*i),
                    ParamValue::Str(s) => Setting::Str(String::from_utf8_lossy(s).into_owned()),
                };
                let (name, value) = match self.param(m, &line.name, value) {
                    Ok(Accepted { name, value, warning }) => {
                        if let Some(warning) = warning {
                            let new = name.clone();
                            if new.is_empty() {
                                self.say_fix(line.span, warning, None, line.whole, String::new());
                            } else if new != line.name {
                                self.say_fix(line.span, warning, None, line.span, format!("\"{new}\""));
                            } else {
                                let text = match &value {
                                    Setting::Int(i) => i.to_string(),
                                    Setting::Str(s) => format!("\"{s}\""),
                                };
                                self.say_fix(line.value_span, warning, None, line.value_span, text);
                            }
                        }
                        if name.is_empty() {
                            continue;
                        }
                        (name, value)
                    }
                    Err(error) => {
                        let known = m.params.iter().map(|p| p.name);
                        let unknown = !m.params.iter().any(|p| p.name == line.name);
                        let help = if unknown { diag::did_you_mean(&line.name, known) } else { None };
                        let span = if unknown { line.span } else { line.value_span };
                        self.say(Severity::Error, span, error, help);
                        continue;
                    }
                };
                if let Some(list) = given.get_mut(m.name) {
                    list.push((name, value));
                }
            }
        }
        given
    }

    fn param(&self, m: &Module, name: &str, value: Setting) -> Result<Accepted, String> {
        let mut warning = None;
        let mut name = name;
        if let Some((_, today)) = m.old_params.iter().find(|(old, _)| *old == name) {
            if today.is_empty() {
                let text = format!("parameter `{name}` of `{}` has no effect here", m.name);
                return Ok(Accepted { name: String::new(), value, warning: Some(text) });
            }
            warning = Some(format!("parameter `{name}` of `{}` is called `{today}` today", m.name));
            name = today;
        }
        let Some(p) = m.params.iter().find(|p| p.name == name) else {
            return Err(format!("module `{}` has no parameter `{name}`", m.name));
        };
        let value = match (p.kind, value) {
            (ParamKind::Int, Setting::Str(s)) => match s.trim().parse() {
                Ok(i) => {
                    warning.get_or_insert_with(|| {
                        format!("`{name}` takes an integer: write {i} without quotes")
                    });
                    Setting::Int(i)
                }
                Err(_) => return Err(format!("parameter `{name}` takes an integer, not \"{s}\"")),
            },
            (ParamKind::Str, Setting::Int(i)) => {
                warning.get_or_insert_with(|| format!("`{name}` takes a string: write \"{i}\""));
                Setting::Str(i.to_string())
            }
            (_, value) => value,
        };
        Ok(Accepted { name: name.to_owned(), value, warning })
    }

    /// Sockets of SIP, and those of transports that modules serve.
    fn sockets(&mut self, modules: &[&'static Module]) -> (Vec<SocketDef>, Vec<SocketDef>) {
        let (mut sockets, mut listens) = (Vec::new(), Vec::new());
        for g in &self.ast.globals {
            let GlobalValue::Socket(def) = &g.value else { continue };
            let proto = def.proto.as_deref().unwrap_or("udp");
            let serves = |m: &&&'static Module| m.transports.contains(&proto);
            if Proto::parse(proto).is_some() {
                sockets.push(def.clone());
            } else if modules.iter().any(|m| serves(&m)) {
                listens.push(def.clone());
            } else {
                let text = format!("transport `{proto}` is not available");
                let help = match self.catalogue.iter().find(serves) {
                    Some(m) => format!("write loadmodule \"{}.so\"", m.name),
                    None if proto == "bond" => {
                        "write a line for each socket; `$socket_out` picks one, and the right \
                                                address family and transport are found by themselves"
                            .to_owned()
                    }
                    None => "there are udp and tcp".to_owned(),
                };
                self.say(Severity::Error, g.span, text, Some(help));
            }
        }
        (sockets, listens)
    }

    fn blacklists(&self) -> Vec<BlacklistDef> {
        let defs = self.ast.globals.iter().filter_map(|g| match &g.value {
            GlobalValue::Blacklist(def) => Some(def.clone()),
            _ => None,
        });
        defs.collect()
    }

    fn aliases(&mut self) -> Vec<Alias> {
        let lists = self.ast.globals.iter().filter_map(|g| match &g.value {
            GlobalValue::Alias(list) => Some(list),
            _ => None,
        });
        lists
            .flatten()
            .map(|a| Alias {
                proto: a.proto.as_deref().and_then(Proto::parse),
                host: a.host.to_ascii_lowercase(),
                port: a.port,
                subdomains: a.accept_subdomain,
            })
            .collect()
    }
}

struct Accepted {
    name: String,
    value: Setting,
    warning: Option<String>,
}

/// Order of start: drivers first, then as written, each after what it needs. A circle of needs is cut where it closes.
fn order(modules: Vec<&'static Module>) -> Vec<&'static Module> {
    fn visit(
        m: &'static Module,
        all: &[&'static Module],
        seen: &mut HashSet<&'static str>,
        out: &mut Vec<&'static Module>,
    ) {
        if !seen.insert(m.name) {
            return;
        }
        for need in m.needs {
            if let Some(found) = all.iter().find(|x| x.name == *need) {
                visit(found, all, seen, out);
            }
        }
        out.push(m);
    }
    let mut sorted = modules.clone();
    sorted.sort_by_key(|m| !m.driver);
    let mut seen = HashSet::new();
    let mut out = Vec::with_capacity(modules.len());
    for m in &sorted {
        visit(m, &sorted, &mut seen, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Param;

    static A: Module = Module { name: "a", needs: &["b"], ..Module::EMPTY };
    static B: Module = Module {
        name: "b",
        params: &[Param::int("limit", "1", "")],
        old_params: &[("max", "limit")],
        ..Module::EMPTY
    };
    static D: Module = Module { name: "db_x", driver: true, ..Module::EMPTY };

    fn check(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
        let source = Source::Text("t.cfg".into(), text.as_bytes().into());
        load(&source, &[&A, &B, &D], &[])
    }

    #[test]
    fn modules_start_after_what_they_need_and_drivers_first() {
        let l = check("loadmodule \"a.so\"\nloadmodule \"db_x.so\"\nroute { exit; }\n").ok().unwrap();
        let names: Vec<_> = l.registry.modules.iter().map(|m| m.name).collect();
        assert_eq!(names, ["db_x", "b", "a"]);
        assert!(l.warnings[0].message.contains("needs `b`"));
    }

    #[test]
    fn all_errors_come_at_once_with_their_places() {
        let text = "loadmodule \"bb.so\"\nloadmodule \"b.so\"\nmodparam(\"b\", \"limt\", 3)\n\
                    modparam(\"b\", \"limit\", \"many\")\nlgo_level=3\nroute { exit; }\n";
        let errors = check(text).err().unwrap();
        let seen: Vec<_> = errors.iter().map(|d| (d.line, d.message.clone(), d.help.clone())).collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert_eq!((seen[0].0, seen[1].0, seen[2].0, seen[3].0), (1, 3, 4, 5));
        assert!(seen[1].2.as_ref().unwrap().contains("limit"));
        assert!(seen[2].1.contains("takes an integer"));
    }

    #[test]
    fn old_parameters_are_read_under_their_new_name() {
        let l =
            check("loadmodule \"b.so\"\nmodparam(\"b\", \"max\", \"5\")\nroute { exit; }\n").ok().unwrap();
        assert_eq!(l.params["b"], [("limit".to_owned(), Setting::Int(5))]);
        assert!(l.warnings[0].message.contains("`limit` today"));
    }
}
