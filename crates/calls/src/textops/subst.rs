//! `subst('/expression/new/flags')` and its kin; the new text may hold `\0` to `\9`, `\u` (the Request-URI) and variables.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use regex::bytes::Captures;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::Prepared;
use switchroom_kernel::run::print_format;
use switchroom_script::names::StaticArg;
use switchroom_script::{Piece, Subst, Template};
use switchroom_wire::sip::Uri;

use super::edit::{self, Change};
use crate::core::functions::set_part;
use crate::core::uri::Part;

/// One call site.
struct Site {
    subst: Subst,
    /// Formats of the pieces with variables; made at the first call, when all variables are known.
    formats: OnceLock<Vec<Option<Template>>>,
}

pub(super) fn prepare(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    match args.first() {
        Some(StaticArg::Str(text)) => {
            let subst = Subst::parse(&with_uri(text))?;
            Ok(Some(Arc::new(Site { subst, formats: OnceLock::new() })))
        }
        _ => Err("the substitution must be a fixed text".into()),
    }
}

/// `\u` in the replacement becomes `$ru`.
fn with_uri(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 4);
    let mut delimiters = 0;
    let mut i = 0;
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            (b'\\', Some(b'u')) if delimiters == 2 => {
                out.extend_from_slice(b"$ru");
                i += 1;
            }
            (b'\\', Some(next)) => {
                out.extend_from_slice(&[b'\\', *next]);
                i += 1;
            }
            (b, _) => {
                delimiters += usize::from(Some(&b) == text.first());
                out.push(b);
            }
        }
        i += 1;
    }
    out
}

impl Site {
    /// The pieces of the replacement as they are for this message.
    fn texts(&self, ctx: &mut Ctx) -> Vec<Option<Bytes>> {
        let shard = ctx.shard.clone();
        let formats = self.formats.get_or_init(|| {
            let pieces = self.subst.replacement.iter();
            pieces
                .map(|piece| match piece {
                    Piece::Text(t) if t.contains(&b'$') => Template::compile(t, &shard.kernel.registry)
                        .inspect_err(|e| tracing::error!("substitution: {e}"))
                        .ok(),
                    _ => None,
                })
                .collect()
        });
        let pieces = self.subst.replacement.iter().zip(formats);
        pieces
            .map(|(piece, format)| match (piece, format) {
                (Piece::Text(_), Some(format)) => Some(print_format(ctx, format)),
                (Piece::Text(t), None) => Some(Bytes::copy_from_slice(t)),
                (Piece::Group(_), _) => None,
            })
            .collect()
    }

    fn changes(&self, text: &[u8], texts: &[Option<Bytes>]) -> Vec<Change> {
        let limit = if self.subst.all { usize::MAX } else { 1 };
        let found = self.subst.regex.captures_iter(text).take(limit);
        found.filter_map(|m| Some((m.get(0)?.range(), self.replacement(&m, texts)))).collect()
    }

    fn replacement(&self, found: &Captures<'_>, texts: &[Option<Bytes>]) -> Bytes {
        let mut out = Vec::new();
        for (piece, text) in self.subst.replacement.iter().zip(texts) {
            match (piece, text) {
                (Piece::Group(n), _) => out.extend_from_slice(found.get(*n).map_or(b"", |m| m.as_bytes())),
                (_, Some(text)) => out.extend_from_slice(text),
                _ => {}
            }
        }
        out.into()
    }

    fn apply(&self, ctx: &mut Ctx, text: &[u8]) -> Option<Vec<u8>> {
        let texts = self.texts(ctx);
        let changes = self.changes(text, &texts);
        (!changes.is_empty()).then(|| edit::spliced(text, &changes))
    }
}

/// `subst()`: headers and body.
pub(super) fn message(c: &mut Call<'_>) -> Flow {
    let Some(prepared) = c.prepared.cloned() else { return FALSE };
    let Some(site) = prepared.downcast_ref::<Site>() else { return FALSE };
    let texts = site.texts(c.ctx);
    let in_head = edit::head(c.ctx, |head| site.changes(head, &texts));
    if in_head && !site.subst.all {
        return TRUE;
    }
    let in_body = body(c.ctx, site, &texts);
    if in_head { TRUE } else { in_body }
}

/// `subst_body()`
pub(super) fn in_body(c: &mut Call<'_>) -> Flow {
    let Some(prepared) = c.prepared.cloned() else { return FALSE };
    let Some(site) = prepared.downcast_ref::<Site>() else { return FALSE };
    let texts = site.texts(c.ctx);
    body(c.ctx, site, &texts)
}

fn body(ctx: &mut Ctx, site: &Site, texts: &[Option<Bytes>]) -> Flow {
    edit::body(ctx, |old| {
        let changes = site.changes(old, texts);
        (!changes.is_empty()).then(|| edit::spliced(old, &changes))
    })
}

/// `subst_uri()`
pub(super) fn uri(c: &mut Call<'_>) -> Flow {
    let Some(prepared) = c.prepared.cloned() else { return FALSE };
    let Some(site) = prepared.downcast_ref::<Site>() else { return FALSE };
    let old = c.ctx.ruri();
    let Some(new) = site.apply(c.ctx, &old) else { return FALSE };
    if Uri::parse(&new).is_err() {
        tracing::warn!("subst_uri(): \"{}\" is no URI", String::from_utf8_lossy(&new));
        return FALSE;
    }
    c.ctx.target.uri = Some(new.into());
    TRUE
}

/// `subst_user()`
pub(super) fn user(c: &mut Call<'_>) -> Flow {
    let Some(prepared) = c.prepared.cloned() else { return FALSE };
    let Some(site) = prepared.downcast_ref::<Site>() else { return FALSE };
    let uri = c.ctx.ruri();
    let Some(old) = Uri::parse(&uri).ok().and_then(|u| u.user) else { return FALSE };
    let Some(new) = site.apply(c.ctx, old) else { return FALSE };
    if set_part(c.ctx, Part::User, &new) { TRUE } else { FALSE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Site {
        Site { subst: Subst::parse(text.as_bytes()).unwrap(), formats: OnceLock::new() }
    }

    fn plain(text: &str, old: &str) -> Option<String> {
        let site = site(text);
        let texts: Vec<_> = site
            .subst
            .replacement
            .iter()
            .map(|p| match p {
                Piece::Text(t) => Some(Bytes::copy_from_slice(t)),
                Piece::Group(_) => None,
            })
            .collect();
        let changes = site.changes(old.as_bytes(), &texts);
        (!changes.is_empty()).then(|| String::from_utf8(edit::spliced(old.as_bytes(), &changes)).unwrap())
    }

    #[test]
    fn groups_are_put_into_the_replacement() {
        let new = plain(r"/^sip:([0-9]+)@(.*)$/sip:3463\1@\2;orig_uri=\0/i", "SIP:12@a.org");
        assert_eq!(new.unwrap(), "sip:346312@a.org;orig_uri=SIP:12@a.org");
        assert_eq!(plain(r"/3642$/36423463/", "553642").unwrap(), "5536423463");
        assert!(plain(r"/3642$/x/", "36420").is_none());
    }

    #[test]
    fn lines_count_and_only_g_replaces_all() {
        let head = "To: <sip:a@h>\r\nX: 1\r\nx: 2\r\n";
        assert_eq!(plain(r"/^X: .$/Y/", "X: 1\nX: 2\n").unwrap(), "Y\nX: 2\n");
        assert_eq!(plain(r"/^x:/Y:/ig", head).unwrap(), "To: <sip:a@h>\r\nY: 1\r\nY: 2\r\n");
    }

    #[test]
    fn the_request_uri_may_stand_in_the_replacement() {
        assert_eq!(with_uri(br"/\u/a\u\\u\1/g"), br"/\u/a$ru\\u\1/g");
    }
}
