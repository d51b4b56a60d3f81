//! `scheme://user:password@host:port/database?name=value`, as OpenSIPS writes it.
//!
//! Nothing is escaped in user and password: the last `@` ends them, so that passwords may hold any character.

use switchroom_kernel::ports::store::StoreError;

/// A URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Empty when the URL names none.
    pub host: String,
    pub port: Option<u16>,
    pub database: String,
    /// What stands behind `?`, in order.
    pub params: Vec<(String, String)>,
}

impl Url {
    /// Reads a URL of `scheme`.
    pub fn read(url: &str, scheme: &str) -> Result<Url, StoreError> {
        let wrong = |why: &str| {
            let hidden = hide(url);
            StoreError::Url(format!("`{hidden}` {why}; write {scheme}://user:password@host:port/database"))
        };
        let rest = url.strip_prefix(scheme).and_then(|r| r.strip_prefix("://"));
        let rest = rest.ok_or_else(|| wrong(&format!("does not begin with `{scheme}://`")))?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (place, params) = place.split_once('?').unwrap_or((place, ""));
        let (address, database) = place.split_once('/').ok_or_else(|| wrong("names no database"))?;
        if database.is_empty() {
            return Err(wrong("names no database"));
        }
        let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("has a wrong host"))?))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().map_err(|_| wrong("has a wrong port"))?),
            None => None,
        };
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
                None => (Some(login.to_owned()), None),
            },
        };
        let params = params.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            (name.to_owned(), value.to_owned())
        });
        Ok(Url {
            scheme: scheme.to_owned(),
            user,
            password,
            host: host.to_owned(),
            port,
            database: database.to_owned(),
            params: params.collect(),
        })
    }

    /// For logs: without the password.
    pub fn shown(&self) -> String {
        let port = self.port.map(|p| format!(":{p}")).unwrap_or_default();
        let user = self.user.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
        format!("{}://{user}{}{port}/{}", self.scheme, self.host, self.database)
    }
}

/// The text without what may be a password.
fn hide(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(end)) if start + 3 <= end => format!("{}***{}", &url[..start + 3], &url[end..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_may_be_missing_but_the_database() {
        let url = Url::read("mysql://opensips:a:b@c/d@db.example:3307/sip?unix_socket=/x", "mysql").unwrap();
        assert_eq!(url.user.as_deref(), Some("opensips"));
        assert_eq!(url.password.as_deref(), Some("a:b@c/d"));
        assert_eq!((url.host.as_str(), url.port, url.database.as_str()), ("db.example", Some(3307), "sip"));
        assert_eq!(url.params, [("unix_socket".to_owned(), "/x".to_owned())]);
        assert_eq!(url.shown(), "mysql://opensips@db.example:3307/sip");
        let url = Url::read("postgres:///sip", "postgres").unwrap();
        assert_eq!((url.user, url.host.as_str(), url.port), (None, "", None));
        let url = Url::read("mysql://root@[::1]:3306/sip", "mysql").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.password), ("::1", Some(3306), None));
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in
            ["mysql://u:secret@h", "mysql://u:secret@h:x/d", "mysql://u:secret@h/", "sqlite://u:secret@h/d"]
        {
            let error = Url::read(url, "mysql").unwrap_err().to_string();
            assert!(error.contains("mysql://user:password@host:port/database"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
