//! How other modules answer on the HTTP listener.

use std::sync::Arc;

use super::*;

/// Answers requests below one first path segment.
pub type Handler = Arc<dyn Fn(&Arc<Kernel>, HttpRequest) -> BoxFuture<HttpResponse> + Send + Sync>;

/// Answer everything below `/root`. To be called while the module opens; it must need `httpd`.
pub fn register(o: &Opening<'_>, root: &str, handler: Handler) -> Result<(), String> {
    let Some(httpd) = o.kernel.find::<Httpd>() else { return Err("module httpd is not loaded".into()) };
    let mut roots = httpd.roots.write();
    if root.contains('/') {
        return Err(format!("\"{root}\" must be one segment of a path, without `/`"));
    }
    if roots.iter().any(|(r, _)| r == root) {
        return Err(format!("/{root} is answered by another module already"));
    }
    roots.push((root.to_owned(), handler));
    Ok(())
}

/// An answer in plain text.
pub fn plain(status: u16, text: impl Into<Bytes>) -> HttpResponse {
    answer(status, "text/plain; charset=utf-8", text)
}

/// An answer of any type.
pub fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> HttpResponse {
    let content_type = content_type.to_owned();
    HttpResponse { status, content_type, headers: Vec::new(), body: body.into() }
}
