//! Top-level items: global parameters, `loadmodule`, `modparam` and routes.

use bytes::Bytes;

use super::ast::*;
use super::{Failed, Parsed, Parser, bool_word, globals};
use crate::diag::did_you_mean;
use crate::lex::Kind;
use crate::names::RouteType;
use crate::source::Span;

impl Parser<'_> {
    pub(super) fn script(&mut self, ast: &mut Ast) {
        while !self.is_end() {
            let before = self.token.span;
            if self.item(ast).is_err() {
                self.skip_item();
            }
            if self.token.span == before && !self.is_end() {
                self.bump();
            }
        }
    }

    fn item(&mut self, ast: &mut Ast) -> Parsed<()> {
        if self.eat(";") {
            return Ok(());
        }
        let span = self.token.span;
        let Some(word) = self.word() else {
            let found = self.describe();
            return self.fail(
                span,
                format!("expected a parameter, `loadmodule`, `modparam` or a route, found {found}"),
            );
        };
        match word {
            "loadmodule" => {
                self.bump();
                let (path, at) = self.string("the module's name")?;
                let path = String::from_utf8_lossy(&path).into_owned();
                let file = path.rsplit('/').next().unwrap_or(&path);
                let name = file.strip_suffix(".so").unwrap_or(file).to_string();
                ast.modules.push(LoadModule { path, name, span: at, whole: span.to(at) });
                self.eat(";");
                Ok(())
            }
            "modparam" => {
                self.bump();
                let mut param = self.modparam()?;
                param.whole = span.to(self.last);
                ast.params.push(param);
                self.eat(";");
                Ok(())
            }
            "include_file" | "import_file" => {
                self.fail(span, format!("`{word}` needs a quoted file name and a line of its own"))
            }
            _ => match RouteType::from_keyword(word) {
                Some(kind) => {
                    let route = self.route(kind)?;
                    ast.routes.push(route);
                    Ok(())
                }
                None => self.global(ast, word),
            },
        }
    }

    /// Skips to something that looks like the next top-level item.
    fn skip_item(&mut self) {
        loop {
            match &self.token.kind {
                Kind::End => return,
                Kind::Op("{") => {
                    self.skip_block();
                    return;
                }
                Kind::Op(";" | "}") => {
                    self.bump();
                    return;
                }
                Kind::Word => {
                    let first =
                        self.sources.place(self.token.span).line != self.sources.place(self.last).line;
                    if first {
                        return;
                    }
                }
                _ => {}
            }
            self.bump();
        }
    }

    pub(super) fn string(&mut self, what: &str) -> Parsed<(Bytes, Span)> {
        if let Kind::Str { text, .. } = &self.token.kind {
            let found = (text.clone(), self.token.span);
            self.bump();
            return Ok(found);
        }
        let found = self.describe();
        self.fail(self.token.span, format!("expected {what} in quotes, found {found}"))
    }

    /// Strings that follow one another are one.
    pub(super) fn strings(&mut self, what: &str) -> Parsed<(Bytes, Span)> {
        let (mut text, mut span) = self.string(what)?;
        while let Kind::Str { text: more, .. } = &self.token.kind {
            text = [text.as_ref(), more.as_ref()].concat().into();
            span = span.to(self.token.span);
            self.bump();
        }
        Ok((text, span))
    }

    fn modparam(&mut self) -> Parsed<ModParam> {
        self.expect("(")?;
        let read = |p: &mut Self| -> Parsed<ModParam> {
            let (module, module_span) = p.string("the module's name")?;
            p.expect(",")?;
            let (name, span) = p.string("the parameter's name")?;
            p.expect(",")?;
            let value_span = p.token.span;
            let value = match p.token.kind {
                Kind::Str { .. } => ParamValue::Str(p.strings("the value")?.0),
                _ => ParamValue::Int(p.signed_int("a number or a quoted string")?),
            };
            Ok(ModParam {
                module: String::from_utf8_lossy(&module).into_owned(),
                name: String::from_utf8_lossy(&name).into_owned(),
                value,
                span,
                module_span,
                value_span: value_span.to(p.last),
                whole: module_span,
            })
        };
        let param = read(self)?;
        self.expect(")")?;
        Ok(param)
    }

    /// An integer with an optional sign, or a boolean word.
    pub(super) fn signed_int(&mut self, what: &str) -> Parsed<i64> {
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        match self.token.kind {
            Kind::Int(n) => {
                self.bump();
                Ok(if negative { -n } else { n })
            }
            _ => match self.word().and_then(bool_word) {
                Some(n) if !negative => {
                    self.bump();
                    Ok(n)
                }
                _ => {
                    let found = self.describe();
                    self.fail(self.token.span, format!("expected {what}, found {found}"))
                }
            },
        }
    }

    fn route(&mut self, kind: RouteType) -> Parsed<Route> {
        let head = self.bump().span;
        let mut name = None;
        let mut interval = 0;
        if self.is_op("[") {
            self.bump();
            name = Some(self.route_name()?);
            if kind == RouteType::Timer {
                self.expect(",")?;
                let at = self.token.span;
                let n = self.signed_int("the interval in seconds")?;
                if n <= 0 || n > i64::from(u32::MAX) {
                    self.error(at, "the interval must be at least one second");
                }
                interval = u32::try_from(n).unwrap_or(1);
            }
            self.expect("]")?;
        }
        let span = head.to(self.last);
        match kind {
            RouteType::Error | RouteType::Local | RouteType::Startup if name.is_some() => {
                self.error(span, format!("`{}` takes no name", kind.keyword()));
            }
            RouteType::Failure | RouteType::Branch | RouteType::Timer | RouteType::Event
                if name.is_none() =>
            {
                self.error(span, format!("`{}` needs a name in [ ]", kind.keyword()));
            }
            _ => {}
        }
        if kind == RouteType::Request && name.as_deref() == Some("0") {
            name = None;
        }
        let body = self.block()?;
        Ok(Route { kind, name, interval, body, span })
    }

    fn route_name(&mut self) -> Parsed<String> {
        if let Kind::Str { text, .. } = &self.token.kind {
            let text = String::from_utf8_lossy(text).into_owned();
            self.bump();
            return Ok(text);
        }
        match self.raw_word(b"],{}", false) {
            Some((text, _)) => Ok(text),
            None => {
                let found = self.describe();
                self.fail(self.token.span, format!("expected the route's name, found {found}"))
            }
        }
    }

    fn global(&mut self, ast: &mut Ast, word: &str) -> Parsed<()> {
        let name_span = self.bump().span;
        if word == "mem" && self.is_op("-") {
            return self.memory_group(name_span);
        }
        if !self.is_op("=") {
            let known = ["loadmodule", "modparam", "include_file", "import_file"]
                .into_iter()
                .chain(RouteType::ALL.map(RouteType::keyword));
            let help = did_you_mean(word, known.chain(globals::names()));
            let d = self.sources.diag(
                crate::diag::Severity::Error,
                name_span,
                format!(
                    "`{word}` is neither a parameter (`{word} = value`), `loadmodule`, `modparam` nor a route"
                ),
            );
            self.push(match help {
                Some(h) => d.help(h),
                None => d,
            });
            return Err(Failed);
        }
        let spec = globals::find(word);
        let Some(spec) = spec else {
            let d = self.sources.diag(
                crate::diag::Severity::Error,
                name_span,
                format!("there is no global parameter `{word}`"),
            );
            self.push(match did_you_mean(word, globals::names()) {
                Some(h) => d.help(h),
                None => d,
            });
            return Err(Failed);
        };
        self.bump();
        let (name, keep) = match spec.today {
            globals::Today::Same => (word, true),
            globals::Today::Renamed(new) => {
                self.warn_fix(
                    name_span,
                    format!("`{word}` is the older name of `{new}`"),
                    format!("write `{new} = ...`"),
                    name_span,
                    new,
                );
                (new, true)
            }
            globals::Today::Gone(_) => (word, false),
        };
        let value = self.global_value(name, spec.kind)?;
        let span = name_span.to(self.last);
        if let globals::Today::Gone(instead) = spec.today {
            self.warn_fix(name_span, format!("`{word}` no longer has an effect"), instead, span, "");
        }
        if keep {
            ast.globals.push(Global { name: name.into(), value, span });
        }
        if name.ends_with("_workers") && self.word() == Some("use_auto_scaling_profile") {
            self.bump();
            let profile = self.option_word("the profile's name")?;
            let name = format!("{name}_auto_scaling_profile");
            ast.globals.push(Global { name, value: GlobalValue::Str(profile.into()), span });
        }
        self.eat(";");
        Ok(())
    }

    /// `mem-group = "name": "module" "module"`
    fn memory_group(&mut self, start: Span) -> Parsed<()> {
        self.bump();
        if self.word() != Some("group") {
            return self.fail(start, "expected `mem-group`");
        }
        self.bump();
        self.expect("=")?;
        self.string("the group's name")?;
        self.expect(":")?;
        self.strings("a module's name")?;
        let whole = start.to(self.last);
        self.warn_fix(whole, "`mem-group` no longer has an effect", "leave it out", whole, "");
        Ok(())
    }

    fn global_value(&mut self, name: &str, kind: globals::Kind) -> Parsed<GlobalValue> {
        use globals::Kind as G;
        let at = self.token.span;
        match kind {
            G::Socket => return Ok(GlobalValue::Socket(self.socket()?)),
            G::Alias => return Ok(GlobalValue::Alias(self.aliases()?)),
            G::Scaling => return Ok(GlobalValue::Scaling(self.scaling_profile()?)),
            G::Blacklist => return Ok(GlobalValue::Blacklist(self.blacklist()?)),
            G::Int | G::Str | G::Any => {}
        }
        if let Kind::Str { text, .. } = &self.token.kind {
            let text = text.clone();
            self.bump();
            if kind == G::Int {
                return match crate::value::parse_int(&text) {
                    Some(n) => {
                        let message = format!("`{name}` takes a number");
                        self.warn_fix(at, message, "leave out the quotes", at, n.to_string());
                        Ok(GlobalValue::Int(n))
                    }
                    None => self.fail(at, format!("`{name}` takes a number")),
                };
            }
            return Ok(GlobalValue::Str(text));
        }
        let Some((word, span)) = self.raw_word(b"{}", false) else {
            let found = self.describe();
            return self.fail(at, format!("expected a value for `{name}`, found {found}"));
        };
        let number = crate::value::parse_int(word.as_bytes())
            .or_else(|| bool_word(&word))
            .or_else(|| i64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        match (kind, number) {
            (G::Str, Some(n)) if crate::value::parse_int(word.as_bytes()).is_some() => {
                let _ = n;
                Ok(GlobalValue::Str(word.into()))
            }
            (_, Some(n)) => Ok(GlobalValue::Int(n)),
            (G::Int, None) => self.fail(span, format!("`{name}` takes a number or yes/no, not `{word}`")),
            (_, None) => Ok(GlobalValue::Str(word.into())),
        }
    }
}
