//! Ports to a world that is not there: every call is refused. For checking and testing scripts without sockets.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::datagram::{Answerer, DatagramAddress, DatagramError, DatagramListen, Datagrams};
use super::http::{HttpAnswer, HttpCall, HttpCallError, HttpClient, HttpConfig, HttpHandler, HttpServer};
use super::net::{BoxFuture, NaptrRecord, ResolveError, Resolver, Spawn, SrvRecord};
use super::stream::{Accept, ByteStream, StreamError, StreamListen, StreamTarget, Streams};

/// Refuses everything; futures to spawn are dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absent;

impl Spawn for Absent {
    fn spawn(&self, _: BoxFuture<()>) {}
}

impl Resolver for Absent {
    fn addresses(&self, _: &str) -> BoxFuture<Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
    fn srv(&self, _: &str) -> BoxFuture<Result<Vec<SrvRecord>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
    fn naptr(&self, _: &str) -> BoxFuture<Result<Vec<NaptrRecord>, ResolveError>> {
        Box::pin(async { Err(ResolveError::NotFound) })
    }
}

impl HttpServer for Absent {
    fn serve(&self, _: HttpConfig, _: HttpHandler) -> BoxFuture<Result<SocketAddr, String>> {
        Box::pin(async { Err("no HTTP here".to_owned()) })
    }
}

impl HttpClient for Absent {
    fn call(&self, _: HttpCall) -> BoxFuture<Result<HttpAnswer, HttpCallError>> {
        Box::pin(async { Err(HttpCallError::Connect("no HTTP here".to_owned())) })
    }
}

impl Streams for Absent {
    fn connect(&self, _: StreamTarget) -> BoxFuture<Result<Box<dyn ByteStream>, StreamError>> {
        Box::pin(async { Err(StreamError("no streams here".to_owned())) })
    }
    fn listen(&self, _: StreamListen, _: Accept) -> BoxFuture<Result<SocketAddr, StreamError>> {
        Box::pin(async { Err(StreamError("no streams here".to_owned())) })
    }
}

impl Datagrams for Absent {
    fn send(&self, _: DatagramAddress, _: Bytes) -> BoxFuture<Result<(), DatagramError>> {
        Box::pin(async { Err(DatagramError("no datagrams here".to_owned())) })
    }
    fn serve(&self, _: DatagramListen, _: Answerer) -> BoxFuture<Result<DatagramAddress, DatagramError>> {
        Box::pin(async { Err(DatagramError("no datagrams here".to_owned())) })
    }
}
