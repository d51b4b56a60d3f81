//! Places in documents: `name/key[index]/key`, at the end `.keys` or `.values`. Spaces count.

use std::fmt;

/// A place in a document.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    /// Name of the document.
    pub document: String,
    /// The way from its root.
    pub steps: Vec<Step>,
    /// What is gone through by `for`.
    pub part: Part,
}

/// One step down.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// `/key`
    Key(String),
    /// `[1]`; negative from the end.
    At(i64),
    /// `[]`
    Append,
}

/// What is gone through by `for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The value; `for` takes its values.
    Itself,
    /// `.keys`
    Keys,
    /// `.values`
    Values,
}

/// Steps of one path.
const MAX_STEPS: usize = 64;

impl Path {
    /// Read the notation.
    pub fn parse(text: &str) -> Result<Path, String> {
        let (text, part) = match (text.strip_suffix(".keys"), text.strip_suffix(".values")) {
            (Some(text), _) => (text, Part::Keys),
            (_, Some(text)) => (text, Part::Values),
            _ => (text, Part::Itself),
        };
        let end = text.find(['/', '[']).unwrap_or(text.len());
        let (document, mut rest) = text.split_at(end);
        if document.is_empty() {
            return Err("the name of the document is missing".into());
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() >= MAX_STEPS {
                return Err(format!("more than {MAX_STEPS} steps"));
            }
            if let Some(key) = rest.strip_prefix('/') {
                let end = key.find(['/', '[']).unwrap_or(key.len());
                steps.push(Step::Key(key[..end].to_owned()));
                rest = &key[end..];
            } else {
                let (index, after) = rest
                    .strip_prefix('[')
                    .and_then(|r| r.split_once(']'))
                    .ok_or_else(|| format!("\"{rest}\" should be `/key` or `[index]`"))?;
                steps.push(match index {
                    "" => Step::Append,
                    n => Step::At(n.parse().map_err(|_| format!("\"{n}\" is no index"))?),
                });
                rest = after;
            }
        }
        Ok(Path { document: document.to_owned(), steps, part })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.document)?;
        self.steps.iter().try_for_each(|s| s.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_keys_and_indexes() {
        let path = Path::parse("name/key1[0][-1]/key 2[]").unwrap();
        let key = |k: &str| Step::Key(k.to_owned());
        assert_eq!(path.steps, [key("key1"), Step::At(0), Step::At(-1), key("key 2"), Step::Append]);
        assert_eq!(path.to_string(), "name/key1[0][-1]/key 2[]");
        let keys = Path::parse("foo/a.keys").unwrap();
        assert_eq!((keys.part, keys.steps), (Part::Keys, vec![key("a")]));
        for bad in ["", "/a", "a[x]", "a[1", "a[1]b"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
