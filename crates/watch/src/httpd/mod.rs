//! One HTTP listener that other modules answer on, each below a first path segment of its own.
//!
//! Left out: TLS, until the house has it; setting one of its parameters is an error, as plain HTTP in its place would be a
//! surprise.

pub mod api;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, Module, Param};
use switchroom_kernel::open::{Opening, block_on};
use switchroom_kernel::ports::http::{HttpConfig, HttpRequest, HttpResponse};
use switchroom_kernel::ports::net::BoxFuture;

/// The module.
pub static MODULE: Module = Module {
    name: "httpd",
    summary: "HTTP listener for management",
    params: &[
        Param::str("ip", "127.0.0.1", "Address to listen on"),
        Param::int("port", "8888", "Port to listen on"),
        Param::int("buf_size", "0", "Kept for old scripts; answers may have any size"),
        Param::int("post_buf_size", "1024", "Largest body, in bytes; never less than 64 KiB"),
        Param::int("receive_buf_size", "1024", "Kept for old scripts"),
        Param::int("conn_timeout", "30", "Seconds after which an idle connection is closed"),
        Param::str("auth_realm", "OpenSIPS_MI", "Realm of the basic authentication"),
        Param::unset("auth_username", "User who may ask; everybody when unset"),
        Param::unset("auth_password", "Password of that user"),
        Param::unset("tls_cert_file", "Not available yet"),
        Param::unset("tls_key_file", "Not available yet"),
        Param::unset("tls_ciphers", "Not available yet"),
    ],
    commands: &[Command {
        name: "httpd:list_root_path",
        old_names: &["httpd_list_root_path"],
        args: "",
        help: "First path segments that are answered",
        run: |call| Box::pin(async move { Ok(list(&call.kernel)) }),
    }],
    open,
    live: Some(live),
    ..Module::EMPTY
};

/// Bodies up to this size are always taken.
const LEAST_BODY: usize = 64 * 1024;

/// The listener's settings, and who answers.
struct Httpd {
    config: HttpConfig,
    roots: RwLock<Vec<(String, api::Handler)>>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    if let Some(name) = ["tls_cert_file", "tls_key_file", "tls_ciphers"].into_iter().find(|n| o.given(n)) {
        return Err(format!("{name}: TLS is not available yet"));
    }
    let ip = o.text("ip");
    let ip: IpAddr = match ip.as_str() {
        "" | "*" => IpAddr::from([0, 0, 0, 0]),
        text => text
            .trim_matches(['[', ']'])
            .parse()
            .map_err(|_| format!("ip \"{text}\" is not an IPv4 or IPv6 address"))?,
    };
    let port = o.int("port");
    let port = u16::try_from(port).map_err(|_| format!("port is {port}; it must be from 0 to 65535"))?;
    let user = o.str("auth_username").filter(|u| !u.is_empty());
    let password = o.str("auth_password");
    let basic_auth = match (user, password) {
        (Some(user), Some(password)) => Some((o.text("auth_realm"), user, password)),
        (None, None) => None,
        (Some(_), None) => return Err("auth_username is set without auth_password".into()),
        (None, Some(_)) => return Err("auth_password is set without auth_username".into()),
    };
    if basic_auth.is_none() && !ip.is_loopback() {
        tracing::warn!("httpd: {ip} can be reached by others and auth_username is not set");
    }
    let config = HttpConfig {
        listen: SocketAddr::new(ip, port),
        max_body: usize::try_from(o.int("post_buf_size")).unwrap_or(0).max(LEAST_BODY),
        idle_timeout: o.int("conn_timeout").clamp(1, 86_400) as u64,
        basic_auth,
    };
    o.provide(Httpd { config, roots: RwLock::default() });
    Ok(())
}

fn live(kernel: &Arc<Kernel>) {
    let config = kernel.state::<Httpd>().config.clone();
    let shared = kernel.clone();
    let started = kernel.drivers.http.serve(config, Arc::new(move |request| dispatch(&shared, request)));
    // Who is told that the server is ready may ask at once.
    match block_on(started) {
        Ok(addr) => tracing::info!("httpd: listening on http://{addr}/"),
        Err(e) => tracing::error!("httpd: {e}"),
    }
}

fn dispatch(kernel: &Arc<Kernel>, request: HttpRequest) -> BoxFuture<HttpResponse> {
    let first = request.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let roots = kernel.state::<Httpd>().roots.read();
    match roots.iter().find(|(root, _)| root == first) {
        Some((_, handler)) => handler(kernel, request),
        None => {
            let mut text = "Nothing is here. There are:\n".to_owned();
            for (root, _) in roots.iter() {
                text.push('/');
                text.push_str(root);
                text.push('\n');
            }
            Box::pin(async move { api::plain(404, text) })
        }
    }
}

fn list(kernel: &Kernel) -> Json {
    let httpd = kernel.state::<Httpd>();
    let roots = httpd.roots.read();
    let roots: Vec<Json> = roots.iter().map(|(root, _)| json!({ "root": format!("/{root}") })).collect();
    json!({ "HTTPD": roots })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, house};

    static USER: Module = Module {
        name: "user",
        needs: &["httpd"],
        open: |o| {
            api::register(o, "one", Arc::new(|_, r| Box::pin(async move { api::plain(200, r.path) })))?;
            let twice = api::register(o, "one", Arc::new(|_, _| Box::pin(async { api::plain(200, "") })));
            assert!(twice.is_err());
            Ok(())
        },
        ..Module::EMPTY
    };

    const SCRIPT: &str = "loadmodule \"httpd.so\"\nloadmodule \"user.so\"\nroute { exit; }\n";

    #[test]
    fn the_first_path_segment_chooses_who_answers() {
        let (kernel, listeners) = house(SCRIPT, &[&MODULE, &USER]).unwrap();
        let (config, _) = listeners.lock()[0].clone();
        assert_eq!(config.listen, "127.0.0.1:8888".parse().unwrap());
        assert_eq!(ask(&listeners, "GET", "/one/two", "", b"").body, "/one/two".as_bytes());
        for path in ["/", "/two", "/onetwo"] {
            let nothing = ask(&listeners, "GET", path, "", b"");
            assert_eq!(nothing.status, 404);
            assert!(nothing.body.ends_with(b"/one\n"));
        }
        let listed = block_on(switchroom_kernel::commands::run(&kernel, "httpd_list_root_path", Json::Null));
        assert_eq!(listed.unwrap(), json!({"HTTPD": [{"root": "/one"}]}));
    }

    #[test]
    fn tls_and_half_an_authentication_are_refused() {
        let with = |line: &str| format!("loadmodule \"httpd.so\"\n{line}\nroute {{ exit; }}\n");
        let tls = house(&with("modparam(\"httpd\", \"tls_cert_file\", \"/x\")"), &[&MODULE]);
        assert!(tls.err().unwrap().contains("TLS is not available yet"));
        let half = house(&with("modparam(\"httpd\", \"auth_username\", \"x\")"), &[&MODULE]);
        assert!(half.err().unwrap().contains("auth_password"));
    }

    #[test]
    fn authentication_and_bounds_reach_the_listener() {
        let script = "loadmodule \"httpd.so\"\nmodparam(\"httpd\", \"ip\", \"::1\")\n\
                      modparam(\"httpd\", \"port\", 0)\nmodparam(\"httpd\", \"post_buf_size\", 1000000)\n\
                      modparam(\"httpd\", \"auth_username\", \"u\")\nmodparam(\"httpd\", \"auth_password\", \"p\")\n\
                      route { exit; }\n";
        let (_kernel, listeners) = house(script, &[&MODULE]).unwrap();
        let (config, _) = listeners.lock()[0].clone();
        assert_eq!(config.listen, "[::1]:0".parse().unwrap());
        assert_eq!(config.max_body, 1_000_000);
        assert_eq!(config.basic_auth, Some(("OpenSIPS_MI".into(), "u".into(), "p".into())));
    }
}
