//! The HTTP server over a real connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::ports::http::{HttpConfig, HttpHandler, HttpRequest, HttpResponse};
use switchroom_net::http::server;
use switchroom_net::timers::Control;

fn serve(control: &Control, config: HttpConfig) -> SocketAddr {
    let handler: HttpHandler = Arc::new(|request: HttpRequest| {
        Box::pin(async move {
            let text = format!(
                "{} {} ?{} host={} body={}",
                request.method,
                request.path,
                request.query,
                request.headers.iter().find(|(n, _)| n == "host").map_or("", |(_, v)| v),
                String::from_utf8_lossy(&request.body)
            );
            HttpResponse {
                status: 201,
                content_type: "text/plain".to_owned(),
                headers: vec![("x-test".to_owned(), "yes".to_owned())],
                body: Bytes::from(text),
            }
        })
    });
    let handle = control.handle();
    handle.block_on(server(&handle).serve(config, handler)).unwrap()
}

fn config() -> HttpConfig {
    HttpConfig { listen: "127.0.0.1:0".parse().unwrap(), max_body: 100, idle_timeout: 1, basic_auth: None }
}

fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_handler_sees_the_request_and_its_answer_arrives() {
    let control = Control::start().unwrap();
    let addr = serve(&control, config());
    let answer =
        ask(addr, "POST /mi?a=b%20c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.contains("x-test: yes\r\n"), "{answer}");
    assert!(answer.ends_with("POST /mi ?a=b%20c host=h body={}"), "{answer}");
}

#[test]
fn a_body_over_the_limit_gets_413_and_a_silent_client_is_closed() {
    let control = Control::start().unwrap();
    let addr = serve(&control, config());
    let large = "x".repeat(101);
    let answer = ask(
        addr,
        &format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\nConnection: close\r\n\r\n{large}"),
    );
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Returns when the server closes.
    let answer = ask(addr, "GET / HTT");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn basic_authentication_lets_only_the_right_password_in() {
    let control = Control::start().unwrap();
    let auth = Some(("mi".to_owned(), "Aladdin".to_owned(), "open sesame".to_owned()));
    let addr = serve(&control, HttpConfig { basic_auth: auth, ..config() });
    let with =
        |line: &str| ask(addr, &format!("GET / HTTP/1.1\r\nHost: h\r\n{line}Connection: close\r\n\r\n"));
    let denied = with("");
    assert!(denied.starts_with("HTTP/1.1 401 "), "{denied}");
    assert!(denied.contains("www-authenticate: Basic realm=\"mi\"\r\n"), "{denied}");
    assert!(with("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n").starts_with("HTTP/1.1 201 "));
}

#[test]
fn a_taken_port_is_an_error_with_its_address() {
    let control = Control::start().unwrap();
    let addr = serve(&control, config());
    let handle = control.handle();
    let handler: HttpHandler = Arc::new(|_| Box::pin(std::future::pending()));
    let error =
        handle.block_on(server(&handle).serve(HttpConfig { listen: addr, ..config() }, handler)).unwrap_err();
    assert!(error.contains(&addr.to_string()), "{error}");
}
