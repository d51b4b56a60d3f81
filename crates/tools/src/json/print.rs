//! Printing in the styles that scripts see: with spaces, without, over several lines.

use super::tree::{MAX_DEPTH, Tree};

/// How a document is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `{ "a": [ 1, 2 ] }`
    Spaced,
    /// `{"a":[1,2]}`
    Compact,
    /// Several lines, two spaces a level.
    Pretty,
    /// As compact, with slashes as they are.
    Plain,
}

/// The text of a value. What is nested too deep is printed as null.
pub fn print(tree: &Tree, style: Style) -> String {
    let mut out = String::new();
    push(tree, style, 0, &mut out);
    out
}

fn push(tree: &Tree, style: Style, depth: usize, out: &mut String) {
    if depth > MAX_DEPTH {
        out.push_str("null");
        return;
    }
    match tree {
        Tree::Null => out.push_str("null"),
        Tree::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Tree::Number(n) => out.push_str(&n.to_string()),
        Tree::Text(text) => quote(text, style, out),
        Tree::Array(list) => {
            out.push('[');
            for (i, node) in list.iter().enumerate() {
                between(i, style, depth + 1, out);
                push(&node.borrow(), style, depth + 1, out);
            }
            close(list.is_empty(), ']', style, depth, out);
        }
        Tree::Object(map) => {
            out.push('{');
            for (i, (key, node)) in map.iter().enumerate() {
                between(i, style, depth + 1, out);
                quote(key, style, out);
                out.push(':');
                if style == Style::Spaced {
                    out.push(' ');
                }
                push(&node.borrow(), style, depth + 1, out);
            }
            close(map.is_empty(), '}', style, depth, out);
        }
    }
}

fn between(i: usize, style: Style, depth: usize, out: &mut String) {
    if i > 0 {
        out.push(',');
    }
    match style {
        Style::Spaced => out.push(' '),
        Style::Pretty => line(depth, out),
        Style::Compact | Style::Plain => {}
    }
}

fn close(empty: bool, bracket: char, style: Style, depth: usize, out: &mut String) {
    match style {
        Style::Spaced => out.push(' '),
        Style::Pretty if !empty => line(depth, out),
        _ => {}
    }
    out.push(bracket);
}

fn line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

fn quote(text: &str, style: Style, out: &mut String) {
    // Writing text into a string cannot fail; an empty string would still be JSON.
    let quoted = serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned());
    if style == Style::Plain {
        out.push_str(&quoted);
    } else {
        out.push_str(&quoted.replace('/', "\\/"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_is_json() {
        let tree = Tree::read(br#"{"a":[1,2.5,{}],"b":"x/y"}"#).unwrap();
        assert_eq!(print(&tree, Style::Spaced), r#"{ "a": [ 1, 2.5, { } ], "b": "x\/y" }"#);
        assert_eq!(print(&tree, Style::Compact), r#"{"a":[1,2.5,{}],"b":"x\/y"}"#);
        assert_eq!(print(&tree, Style::Plain), r#"{"a":[1,2.5,{}],"b":"x/y"}"#);
        assert_eq!(
            print(&tree, Style::Pretty),
            "{\n  \"a\":[\n    1,\n    2.5,\n    {}\n  ],\n  \"b\":\"x\\/y\"\n}"
        );
    }
}
