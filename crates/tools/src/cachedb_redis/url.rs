//! `redis:group://user:password@host:port,host:port/database`, or with `?socket=/path` for a server on a Unix socket.

use super::group::Node;

/// A URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `redis` or `redis:group`, by which scripts name it.
    pub id: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub nodes: Vec<Node>,
    pub database: u64,
}

impl Url {
    /// Reads a URL; the last `@` ends user and password, in which nothing is escaped.
    pub fn read(url: &str) -> Result<Url, String> {
        let wrong = |why: &str| {
            // It may hold a password.
            let id = url.split("://").next().unwrap_or_default();
            format!("cachedb_url \"{id}://...\" {why}; write redis:group://user:password@host:port/database")
        };
        let (id, rest) = url.trim().split_once("://").ok_or_else(|| wrong("is no URL"))?;
        let id = id.trim_end_matches(':');
        if id != "redis" && !id.starts_with("redis:") {
            return Err(wrong("does not begin with `redis`"));
        }
        let (rest, socket) = match rest.rsplit_once("?socket=") {
            Some((rest, path)) if path.starts_with('/') => (rest, Some(path)),
            Some(_) => return Err(wrong("names a socket that does not begin with `/`")),
            None => (rest, None),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let database = match database.trim_end_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| wrong("names a database that is no number"))?,
        };
        let nodes = hosts.split(',').map(|host| node(host.trim()).ok_or_else(|| wrong("has a wrong host")));
        let mut nodes = nodes.collect::<Result<Vec<Node>, String>>()?;
        if let Some(path) = socket {
            if nodes.len() > 1 {
                return Err(wrong("names a socket and several hosts"));
            }
            nodes = vec![(path.into(), 0)];
        }
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or(("", login))) {
            None => (None, None),
            Some(("", password)) => (None, Some(password.to_owned())),
            Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
        };
        Ok(Url { id: id.to_owned(), user, password, nodes, database })
    }
}

fn node(host: &str) -> Option<Node> {
    let (name, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Some(6379), |port| port.parse().ok())?;
    (!name.is_empty()).then(|| (name.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hosts_and_passwords_are_read() {
        let url = Url::read("redis:group1://:se:c@ret@h1:6380,[::1],h2/3").unwrap();
        assert_eq!((url.id.as_str(), url.database), ("redis:group1", 3));
        assert_eq!((url.user, url.password.as_deref()), (None, Some("se:c@ret")));
        assert_eq!(url.nodes, [("h1".into(), 6380), ("::1".into(), 6379), ("h2".into(), 6379)]);
        let url = Url::read("redis://al:pw@localhost:6379/").unwrap();
        assert_eq!((url.id.as_str(), url.user.as_deref(), url.database), ("redis", Some("al"), 0));
        let url = Url::read("redis:l://u:p@localhost/2?socket=/run/redis.sock").unwrap();
        assert_eq!((&url.nodes[..], url.database), (&[("/run/redis.sock".into(), 0)][..], 2));
        for bad in [
            "redis",
            "local://",
            "redis://",
            "redis://h:x",
            "redis://u:secret@h/x",
            "redis://h/?socket=run/x",
            "redis://h,i/?socket=/run/x",
        ] {
            let error = Url::read(bad).unwrap_err();
            assert!(error.contains("redis:group://") && !error.contains("secret"), "{error}");
        }
    }
}
