//! Extra fields: `extra_fields`, `leg_fields`, and the older `db_extra` kind that names a variable.

use std::sync::Arc;

use switchroom_kernel::registry::Registry;
use switchroom_script::Variable;

use super::what::{Backend, is_table};

/// Fields that a parameter declares.
#[derive(Default)]
pub struct Fields {
    /// Tags in order of appearance, over all backends: places of values.
    pub tags: Vec<String>,
    list: Vec<Field>,
}

/// One field of one backend.
pub struct Field {
    backend: Backend,
    /// Column, name in the log line, or attribute of the event.
    pub name: Arc<str>,
    /// Where its value comes from.
    pub source: Source,
}

/// Where a value comes from.
pub enum Source {
    /// Set by the script under the tag of this place.
    Tag(usize),
    /// A variable, read when the record is made.
    Variable(Variable),
}

impl Fields {
    /// Fields of one backend.
    pub fn of(&self, backend: Backend) -> impl Iterator<Item = &Field> {
        self.list.iter().filter(move |f| f.backend == backend)
    }

    /// Take one value of a parameter: `"db: tag->column; tag2"`.
    pub fn declare(&mut self, parameter: &str, text: &str) -> Result<(), String> {
        if text.is_empty() || text == "0" {
            return Ok(());
        }
        let wrong = |why: &str| {
            format!(
                "{parameter} \"{text}\": {why}; it is written \"backend: tag->name; tag2\" with backend log, db or evi"
            )
        };
        let (backend, rest) = text.split_once(':').ok_or_else(|| wrong("the backend is missing"))?;
        let backend = Backend::parse(backend.trim()).map_err(|e| wrong(&e))?;
        for item in rest.split(';').map(str::trim).filter(|i| !i.is_empty()) {
            let (tag, name) = item.split_once("->").map_or((item, item), |(t, n)| (t.trim(), n.trim()));
            if tag.is_empty() || name.is_empty() {
                return Err(wrong("a tag or name is empty"));
            }
            self.check(backend, name).map_err(|e| wrong(&e))?;
            let place = match self.tags.iter().position(|t| t == tag) {
                Some(place) => place,
                None => {
                    self.tags.push(tag.to_owned());
                    self.tags.len() - 1
                }
            };
            self.list.push(Field { backend, name: name.into(), source: Source::Tag(place) });
        }
        Ok(())
    }

    /// Take one value of an older parameter: `"name=$variable; name2=$variable2"`.
    pub fn declare_old(
        &mut self,
        parameter: &str,
        backend: Backend,
        text: &str,
        registry: &Registry,
    ) -> Result<(), String> {
        for item in text.split(';').map(str::trim).filter(|i| !i.is_empty()) {
            let (name, variable) = item
                .split_once('=')
                .ok_or_else(|| format!("{parameter} \"{text}\": it is written \"name=$variable; ...\""))?;
            let name = name.trim();
            self.check(backend, name).map_err(|e| format!("{parameter} \"{text}\": {e}"))?;
            let variable = Variable::compile(variable, registry).map_err(|e| format!("{parameter}: {e}"))?;
            self.list.push(Field { backend, name: name.into(), source: Source::Variable(variable) });
        }
        Ok(())
    }

    fn check(&self, backend: Backend, name: &str) -> Result<(), String> {
        if backend == Backend::Db && !is_table(name) {
            return Err(format!("\"{name}\" is no column name"));
        }
        if self.of(backend).any(|f| &*f.name == name) {
            return Err(format!("\"{name}\" is there twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_shared_between_backends() {
        let mut f = Fields::default();
        f.declare("extra_fields", "db: a->col_a; col_b").unwrap();
        f.declare("extra_fields", "log:b; a -> My_a").unwrap();
        f.declare("extra_fields", "0").unwrap();
        assert_eq!(f.tags, ["a", "col_b", "b"]);
        let names: Vec<_> = f.of(Backend::Db).map(|f| &*f.name).collect();
        assert_eq!(names, ["col_a", "col_b"]);
        let places: Vec<_> = f
            .of(Backend::Log)
            .filter_map(|f| match f.source {
                Source::Tag(place) => Some(place),
                Source::Variable(_) => None,
            })
            .collect();
        assert_eq!(places, [2, 0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mut f = Fields::default();
        for bad in ["a->b", "aaa: a", "db: a->b c", "db: ->x", "db: a; a"] {
            assert!(f.declare("extra_fields", bad).is_err(), "{bad}");
        }
    }
}
