//! Values of documents. A value may be part of several documents, so that a link sees every change.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Number, Value as Json};

use super::path::{Part, Step};

/// A value in its place.
pub type Node = Rc<RefCell<Tree>>;

/// Deepest nesting that is gone into.
pub const MAX_DEPTH: usize = 256;

/// A JSON value. Objects keep the order of their keys.
#[derive(Debug)]
pub enum Tree {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    Array(Vec<Node>),
    /// Keys and values.
    Object(Vec<(String, Node)>),
}

/// What `for` finds.
pub enum Item {
    /// A key of an object.
    Key(String),
    /// A value.
    Value(Node),
}

impl Tree {
    /// Read JSON text. Nesting is bounded by the parser.
    pub fn read(text: &[u8]) -> Result<Tree, String> {
        serde_json::from_slice::<Json>(text).map(Tree::from).map_err(|e| format!("not JSON: {e}"))
    }

    /// Put it in a place of its own.
    pub fn node(self) -> Node {
        Rc::new(RefCell::new(self))
    }
}

impl From<Json> for Tree {
    fn from(json: Json) -> Tree {
        match json {
            Json::Null => Tree::Null,
            Json::Bool(b) => Tree::Bool(b),
            Json::Number(n) => Tree::Number(n),
            Json::String(s) => Tree::Text(s),
            Json::Array(list) => Tree::Array(list.into_iter().map(|v| Tree::from(v).node()).collect()),
            Json::Object(map) => {
                Tree::Object(map.into_iter().map(|(k, v)| (k, Tree::from(v).node())).collect())
            }
        }
    }
}

/// The value at the end of a way.
pub fn find(root: &Node, steps: &[Step]) -> Option<Node> {
    let mut node = root.clone();
    for step in steps {
        let next = match (&*node.borrow(), step) {
            (Tree::Object(map), Step::Key(key)) => map.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()),
            (Tree::Array(list), Step::At(i)) => list.get(position(*i, list.len())?).cloned(),
            _ => None,
        };
        node = next?;
    }
    Some(node)
}

/// Put a value into an object or array, or take one out.
pub fn put(parent: &Node, step: &Step, new: Option<Node>) -> Result<(), String> {
    let mut parent = parent.try_borrow_mut().map_err(|_| "the value is in use")?;
    match (&mut *parent, step, new) {
        (Tree::Object(map), Step::Key(key), Some(node)) => {
            match map.iter_mut().find(|(k, _)| k == key) {
                Some(entry) => entry.1 = node,
                None => map.push((key.clone(), node)),
            }
            Ok(())
        }
        (Tree::Object(map), Step::Key(key), None) => {
            map.retain(|(k, _)| k != key);
            Ok(())
        }
        (Tree::Array(list), Step::Append, Some(node)) => {
            list.push(node);
            Ok(())
        }
        (Tree::Array(list), Step::At(i), new) => {
            let at = position(*i, list.len()).ok_or_else(|| format!("there is no index {i}"))?;
            match new {
                Some(node) => list[at] = node,
                None => drop(list.remove(at)),
            }
            Ok(())
        }
        (_, Step::Key(_), _) => Err("keys are for objects".into()),
        _ => Err("indexes are for arrays".into()),
    }
}

/// What `for` finds at a position.
pub fn item(node: &Node, part: Part, index: i32) -> Option<Item> {
    let at = |len: usize| position(i64::from(index), len);
    match (&*node.borrow(), part) {
        (Tree::Object(map), Part::Keys) => map.get(at(map.len())?).map(|(k, _)| Item::Key(k.clone())),
        (Tree::Object(map), _) => map.get(at(map.len())?).map(|(_, v)| Item::Value(v.clone())),
        (Tree::Array(list), Part::Itself | Part::Values) => {
            list.get(at(list.len())?).cloned().map(Item::Value)
        }
        _ => None,
    }
}

/// Whether `inner` is somewhere in `node`, or is `node` itself. What is too deep to be gone through counts as a yes.
pub fn holds(node: &Node, inner: &Node) -> bool {
    fn search(node: &Node, inner: &Node, depth: usize) -> bool {
        if Rc::ptr_eq(node, inner) || depth > MAX_DEPTH {
            return true;
        }
        match &*node.borrow() {
            Tree::Array(list) => list.iter().any(|n| search(n, inner, depth + 1)),
            Tree::Object(map) => map.iter().any(|(_, n)| search(n, inner, depth + 1)),
            _ => false,
        }
    }
    search(node, inner, 0)
}

fn position(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { i64::try_from(len).ok()? + index } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}
