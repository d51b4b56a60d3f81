//! `switchroom lsp`: a language server (LSP 3.17) over standard input and output.
//!
//! Diagnostics while typing with quick fixes, completion with signatures, hover, go to route, rename route, outline and
//! formatting. Documents come whole with each change; scripts are small. Left out: files that are only on disk are read by
//! includes, but not watched.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use switchroom_kernel::load::Source;
use switchroom_script::diag::Fix;
use switchroom_script::outline::{RouteName, route_names};
use switchroom_script::{Ast, DiskLoader, format};

use crate::check::examine;
use crate::manual::{Entry, Kind, entries};

/// Largest message that is read; an editor sends nothing near it.
const MAX_MESSAGE: usize = 64 << 20;

/// Serve until the editor says `exit` or closes the pipe.
pub fn lsp() -> anyhow::Result<ExitCode> {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let clean = serve(BufReader::new(input), output)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers requests; true when `shutdown` came before the end.
fn serve(mut input: impl BufRead, output: impl Write) -> anyhow::Result<bool> {
    let mut server = Server { output, documents: HashMap::new(), manual: entries(), shut_down: false };
    while let Some(message) = read_message(&mut input)? {
        if message["method"] == "exit" {
            break;
        }
        server.message(&message)?;
    }
    Ok(server.shut_down)
}

fn read_message(input: &mut impl BufRead) -> anyhow::Result<Option<Json>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let length = length.filter(|l| *l <= MAX_MESSAGE);
    let length = length.ok_or_else(|| anyhow::anyhow!("a message without a usable Content-Length"))?;
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body).unwrap_or(Json::Null)))
}

struct Server<W: Write> {
    output: W,
    documents: HashMap<String, String>,
    manual: Vec<Entry>,
    shut_down: bool,
}

impl<W: Write> Server<W> {
    fn message(&mut self, message: &Json) -> anyhow::Result<()> {
        let (method, params) = (message["method"].as_str().unwrap_or_default(), &message["params"]);
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default().to_owned();
        let Some(id) = message.get("id").filter(|id| !id.is_null()) else {
            return self.notification(method, params, uri);
        };
        let result = match method {
            "initialize" => Ok(capabilities()),
            "shutdown" => {
                self.shut_down = true;
                Ok(Json::Null)
            }
            "textDocument/completion" => Ok(self.completion(&uri, &params["position"])),
            "textDocument/hover" => Ok(self.hover(&uri, &params["position"])),
            "textDocument/definition" => Ok(self.definition(&uri, &params["position"])),
            "textDocument/rename" => self.rename(&uri, params),
            "textDocument/documentSymbol" => Ok(self.symbols(&uri)),
            "textDocument/formatting" => self.formatting(&uri),
            "textDocument/codeAction" => Ok(self.actions(&uri, &params["range"])),
            _ => Err((-32601, format!("there is no method `{method}` here"))),
        };
        let answer = match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, text)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
            }
        };
        self.send(&answer)
    }

    fn notification(&mut self, method: &str, params: &Json, uri: String) -> anyhow::Result<()> {
        match method {
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str().unwrap_or_default().to_owned();
                self.documents.insert(uri.clone(), text);
                self.diagnose(&uri)
            }
            "textDocument/didChange" => {
                let changes = params["contentChanges"].as_array().and_then(|c| c.last());
                if let Some(text) = changes.and_then(|c| c["text"].as_str()) {
                    self.documents.insert(uri.clone(), text.to_owned());
                }
                self.diagnose(&uri)
            }
            "textDocument/didClose" => {
                self.documents.remove(&uri);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn send(&mut self, message: &Json) -> anyhow::Result<()> {
        let body = message.to_string();
        write!(self.output, "Content-Length: {}\r\n\r\n{body}", body.len())?;
        self.output.flush()?;
        Ok(())
    }

    fn text(&self, uri: &str) -> &str {
        self.documents.get(uri).map_or("", String::as_str)
    }

    fn ast(&self, uri: &str) -> Ast {
        switchroom_script::parse(&path(uri), self.text(uri).as_bytes(), &mut DiskLoader).0
    }

    fn diagnose(&mut self, uri: &str) -> anyhow::Result<()> {
        let text = self.text(uri).to_owned();
        let name = path(uri);
        let (found, _) = examine(&Source::Text(name.clone(), Arc::from(text.as_bytes())));
        let rows = found.iter().filter(|d| *d.file == *name).map(|d| {
            let message = match &d.help {
                Some(help) => format!("{}\n{help}", d.message),
                None => d.message.clone(),
            };
            json!({
                "range": range(&text, d.line, d.column, d.length),
                "severity": if d.is_error() { 1 } else { 2 },
                "source": "switchroom",
                "message": message,
            })
        });
        let params = json!({"uri": uri, "diagnostics": rows.collect::<Vec<_>>()});
        self.send(&json!({"jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params}))
    }

    fn completion(&self, uri: &str, position: &Json) -> Json {
        let text = self.text(uri);
        let at = offset(text, position);
        let word = word_at(&text[..at], at);
        let variable = word.starts_with('$');
        let bare = word.trim_start_matches(['$', '(']);
        let fits = |e: &&Entry| match e.kind {
            Kind::Variable => variable,
            Kind::Function | Kind::Statement | Kind::Route | Kind::CoreParam => !variable,
            _ => false,
        };
        let items = self.manual.iter().filter(fits).filter(|e| e.name.starts_with(bare)).map(|e| {
            let kind = match e.kind {
                Kind::Function => 3,
                Kind::Variable => 6,
                Kind::CoreParam => 10,
                _ => 14,
            };
            json!({"label": e.name, "kind": kind, "detail": e.notation, "documentation": e.help})
        });
        let ast = self.ast(uri);
        let routes =
            route_names(&ast).into_iter().filter(|r| r.definition && !variable && r.name.starts_with(bare));
        let routes = routes.map(|r| json!({"label": r.name, "kind": 3, "detail": r.kind.keyword()}));
        Json::Array(items.chain(routes).take(1000).collect())
    }

    fn hover(&self, uri: &str, position: &Json) -> Json {
        let text = self.text(uri);
        let at = offset(text, position);
        let end = at + text[at..].bytes().take_while(|b| is_word(*b)).count();
        let word = word_at(&text[..end], end);
        let bare = word.trim_start_matches(['$', '(']);
        let variable = word.starts_with('$');
        let pages: Vec<String> = self
            .manual
            .iter()
            .filter(|e| !bare.is_empty() && e.answers(bare) && variable == (e.kind == Kind::Variable))
            .map(Entry::page)
            .collect();
        if pages.is_empty() {
            return Json::Null;
        }
        json!({"contents": {"kind": "plaintext", "value": pages.join("\n")}})
    }

    /// The route named at a position, and all places that name it.
    fn names_at(&self, uri: &str, position: &Json) -> Option<(Ast, RouteName, Vec<RouteName>)> {
        let text = self.text(uri);
        let ast = self.ast(uri);
        let all = route_names(&ast);
        let at = offset(text, position);
        let here = all.iter().find(|r| {
            let place = ast.sources.place(r.span);
            let start = offset_of(text, place.line, place.column);
            place.file == 0 && (start..=start + r.name.len()).contains(&at)
        });
        let here = here?.clone();
        let same = all.into_iter().filter(|r| r.kind == here.kind && r.name == here.name).collect();
        Some((ast, here, same))
    }

    fn definition(&self, uri: &str, position: &Json) -> Json {
        let Some((ast, _, all)) = self.names_at(uri, position) else { return Json::Null };
        let rows = all.iter().filter(|r| r.definition).map(|r| self.location(uri, &ast, r));
        Json::Array(rows.collect())
    }

    fn location(&self, uri: &str, ast: &Ast, r: &RouteName) -> Json {
        let place = ast.sources.place(r.span);
        if place.file == 0 {
            return json!({"uri": uri, "range": range(self.text(uri), place.line, place.column, r.span.len)});
        }
        let file = ast.sources.files().get(usize::from(place.file)).map_or("", |f| f);
        let file = std::fs::canonicalize(file).map_or_else(|_| file.to_owned(), |p| p.display().to_string());
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        json!({"uri": format!("file://{file}"), "range": range(&text, place.line, place.column, r.span.len)})
    }

    fn rename(&self, uri: &str, params: &Json) -> Result<Json, (i32, String)> {
        let new = params["newName"].as_str().unwrap_or_default();
        if new.is_empty() || !new.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            return Err((-32602, format!("`{new}` is no name for a route")));
        }
        let Some((ast, here, all)) = self.names_at(uri, &params["position"]) else {
            return Err((-32602, "there is no name of a route here".into()));
        };
        if route_names(&ast).iter().any(|r| r.definition && r.kind == here.kind && r.name == new) {
            return Err((-32602, format!("there is a `{}[{new}]` already", here.kind.keyword())));
        }
        let mut changes: HashMap<String, Vec<Json>> = HashMap::new();
        for r in &all {
            let at = self.location(uri, &ast, r);
            let file = at["uri"].as_str().unwrap_or(uri).to_owned();
            changes.entry(file).or_default().push(json!({"range": at["range"], "newText": new}));
        }
        Ok(json!({"changes": changes}))
    }

    fn symbols(&self, uri: &str) -> Json {
        let ast = self.ast(uri);
        let text = self.text(uri);
        let rows = ast.routes.iter().filter(|r| ast.sources.place(r.span).file == 0).map(|r| {
            let place = ast.sources.place(r.span);
            let name = match &r.name {
                Some(name) => format!("{}[{name}]", r.kind.keyword()),
                None => r.kind.keyword().to_owned(),
            };
            let range = range(text, place.line, place.column, r.span.len);
            json!({"name": name, "kind": 12, "range": range, "selectionRange": range})
        });
        Json::Array(rows.collect())
    }

    fn formatting(&self, uri: &str) -> Result<Json, (i32, String)> {
        let text = self.text(uri);
        let new = format::format(text.as_bytes()).map_err(|e| (-32803, e.to_string()))?;
        let new = String::from_utf8_lossy(&new).into_owned();
        if new == text {
            return Ok(json!([]));
        }
        let end = text.matches('\n').count() + 1;
        let whole = json!({"start": {"line": 0, "character": 0}, "end": {"line": end, "character": 0}});
        Ok(json!([{"range": whole, "newText": new}]))
    }

    /// Quick fixes in a range: older spellings rewritten.
    fn actions(&self, uri: &str, wanted: &Json) -> Json {
        let text = self.text(uri);
        let name = path(uri);
        let (found, _) = examine(&Source::Text(name.clone(), Arc::from(text.as_bytes())));
        let line = |p: &Json| p["line"].as_u64().unwrap_or(0) + 1;
        let (first, last) = (line(&wanted["start"]), line(&wanted["end"]));
        let here = found.iter().filter(|d| *d.file == *name && (first..=last).contains(&u64::from(d.line)));
        let actions = here.filter_map(|d| {
            let Fix { line, column, length, text: new } = d.fix.as_ref()?;
            let edit = json!({"range": range(text, *line, *column, *length), "newText": new});
            let title = d.help.clone().unwrap_or_else(|| d.message.clone());
            Some(json!({"title": title, "kind": "quickfix", "edit": {"changes": {uri: [edit]}}}))
        });
        Json::Array(actions.collect())
    }
}

fn capabilities() -> Json {
    json!({
        "serverInfo": {"name": "switchroom", "version": env!("CARGO_PKG_VERSION")},
        "capabilities": {
            "textDocumentSync": 1,
            "completionProvider": {"triggerCharacters": ["$", "."]},
            "hoverProvider": true,
            "definitionProvider": true,
            "renameProvider": true,
            "documentSymbolProvider": true,
            "documentFormattingProvider": true,
            "codeActionProvider": true,
        }
    })
}

/// The path of a `file:` URI, with its escapes resolved.
fn path(uri: &str) -> String {
    let raw = uri.strip_prefix("file://").unwrap_or(uri).as_bytes();
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        let hex = raw.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| raw[i] == b'%') {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(raw[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')
}

/// The word, perhaps with its `$` or `$(`, that ends at `end`.
fn word_at(before: &str, end: usize) -> &str {
    let bytes = before.as_bytes();
    let mut start = end;
    while start > 0 && is_word(bytes[start - 1]) {
        start -= 1;
    }
    for sign in ["$(", "$"] {
        if before[..start].ends_with(sign) {
            return &before[start - sign.len()..end];
        }
    }
    &before[start..end]
}

/// Byte offset of a line and byte column, both from 1.
fn offset_of(text: &str, line: u32, column: u32) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
    (start + column.saturating_sub(1) as usize).min(text.len())
}

/// Byte offset of an editor's position: line from 0, and UTF-16 units.
fn offset(text: &str, position: &Json) -> usize {
    let line = position["line"].as_u64().unwrap_or(0) as usize;
    let wanted = position["character"].as_u64().unwrap_or(0) as usize;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    let mut units = 0;
    for (i, c) in rest.char_indices() {
        if units >= wanted || c == '\n' {
            return start + i;
        }
        units += c.len_utf16();
    }
    text.len()
}

/// An editor's range for a place of ours.
fn range(text: &str, line: u32, column: u32, length: u32) -> Json {
    let start = floor(text, offset_of(text, line, column));
    let end = floor(text, (start + length as usize).min(text.len()));
    json!({"start": position(text, start), "end": position(text, end)})
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn position(text: &str, at: usize) -> Json {
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let units: usize = before[start..].chars().map(char::len_utf16).sum();
    json!({"line": before.matches('\n').count(), "character": units})
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "file:///tmp/a%20b.cfg";
    const SCRIPT: &str = "# grüße\nloadmodule \"sl.so\"\nroute {\n    route(relay);\n    sl_send_reply(\"200\", \"ünd $rU\");\n}\nroute[relay] {\n  exit;\n}\n";

    /// Talks to a server over its protocol; gives what it said, the notifications included.
    fn talk(messages: &[Json]) -> Vec<Json> {
        let mut input = Vec::new();
        for m in messages {
            let body = m.to_string();
            input.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
        let mut output = Vec::new();
        serve(&input[..], &mut output).unwrap();
        let mut rest = &output[..];
        std::iter::from_fn(|| read_message(&mut rest).unwrap()).collect()
    }

    fn ask(text: &str, method: &str, params: Json) -> Vec<Json> {
        let mut params = params;
        params["textDocument"] = json!({"uri": URI});
        talk(&[
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}),
            json!({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": {"uri": URI, "text": text}}}),
            json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": params}),
        ])
    }

    fn answer(text: &str, method: &str, params: Json) -> Json {
        ask(text, method, params).pop().unwrap()["result"].take()
    }

    fn at(line: u32, character: u32) -> Json {
        json!({"position": {"line": line, "character": character}})
    }

    #[test]
    fn mistakes_are_told_while_typing_in_the_editors_units() {
        let said = ask(SCRIPT, "shutdown", json!({}));
        let found = &said[1]["params"]["diagnostics"];
        assert_eq!(said[1]["method"], "textDocument/publishDiagnostics");
        assert_eq!(
            found[0]["range"],
            json!({"start": {"line": 4, "character": 18}, "end": {"line": 4, "character": 23}})
        );
        assert!(found[0]["message"].as_str().unwrap().contains("is a number"), "{found}");
    }

    #[test]
    fn names_are_completed_and_explained() {
        let items = answer("route { sl_se", "textDocument/completion", at(0, 13));
        let first = items.as_array().unwrap().iter().find(|i| i["label"] == "sl_send_reply").unwrap();
        assert_eq!(first["detail"], "sl_send_reply(int, str)");
        let items = answer("route { $r", "textDocument/completion", at(0, 10));
        assert!(items.as_array().unwrap().iter().any(|i| i["label"] == "rU"));
        let page = answer(SCRIPT, "textDocument/hover", at(4, 8));
        assert!(page["contents"]["value"].as_str().unwrap().contains("sl_send_reply(int, str)"));
        let page = answer(SCRIPT, "textDocument/hover", at(4, 32));
        assert!(page["contents"]["value"].as_str().unwrap().contains("User of the Request-URI"), "{page}");
    }

    #[test]
    fn routes_are_found_and_renamed() {
        let found = answer(SCRIPT, "textDocument/definition", at(3, 12));
        assert_eq!(found[0]["range"]["start"], json!({"line": 6, "character": 6}));
        let mut params = at(6, 7);
        params["newName"] = json!("forward_it");
        let edits = answer(SCRIPT, "textDocument/rename", params);
        let edits = edits["changes"][URI].as_array().unwrap().clone();
        let lines: Vec<u64> = edits.iter().map(|e| e["range"]["start"]["line"].as_u64().unwrap()).collect();
        assert_eq!((edits.len(), lines.contains(&3), lines.contains(&6)), (2, true, true));
    }

    #[test]
    fn documents_are_formatted_outlined_and_set_right() {
        let edit = answer(SCRIPT, "textDocument/formatting", json!({}));
        assert!(edit[0]["newText"].as_str().unwrap().contains("route[relay] {\n    exit;\n}"));
        let names = answer(SCRIPT, "textDocument/documentSymbol", json!({}));
        assert_eq!((&names[0]["name"], &names[1]["name"]), (&json!("route"), &json!("route[relay]")));
        let range =
            json!({"range": {"start": {"line": 4, "character": 0}, "end": {"line": 4, "character": 9}}});
        let fixes = answer(SCRIPT, "textDocument/codeAction", range);
        assert_eq!(fixes[0]["edit"]["changes"][URI][0]["newText"], "200");
    }

    #[test]
    fn an_unknown_method_is_refused_and_a_broken_message_ends_nothing() {
        let said = ask(SCRIPT, "textDocument/magic", json!({}));
        assert_eq!(said[2]["error"]["code"], -32601);
        assert!(serve(&b"Content-Length: 3\r\n\r\n{]}"[..], Vec::new()).is_ok());
    }
}
