//! Accepts connections and speaks HTTP/1.1 on them: the limits of the front are here.
//!
//! Its own loop rather than axum's, for the deadline on headers, the limit on connections and the
//! plain stream type that the handover wants.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::drain::Drain;
use super::listen::{Listener, Peer, Stream};
use super::path_token;
use crate::config::Handover;

/// Connections at one time, those handed over not counted; fewer where there are not twice as many
/// descriptors, since requests need some of their own: without, no kernel could be found or started.
const CONNECTIONS_MAX: usize = 4096;

/// A request's head is at most that large. With it at most twice that is read before the handover,
/// which is `LEFT_BYTES_MAX`.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What is waited after a failed accept: there may be no descriptor left for now.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection's place among those that there may be, for whoever carries it on.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// How connections are served.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) router: Router,
    pub(crate) drain: Drain,
    pub(crate) handover: Handover,
    /// How long a request's head may take, and a connection be without a request.
    pub(crate) head_timeout: Duration,
}

/// Serves until the future is dropped; connections that it has then go on until `drain` ends them.
pub(crate) async fn serve(listeners: &[Listener], manner: &Manner) -> Infallible {
    let connections = Arc::new(Semaphore::new(connections_max(manner.handover)));
    let all = listeners
        .iter()
        .map(|listener| accept(listener, &connections, manner));
    join_all(all).await;
    pending().await
}

async fn accept(listener: &Listener, connections: &Arc<Semaphore>, manner: &Manner) {
    // It is never closed.
    while let Ok(permit) = Arc::clone(connections).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = Place {
                    _permit: Arc::new(permit),
                };
                let served = manner.clone();
                manner.drain.spawn(async move {
                    if let Err(error) = connection(stream, peer, place, served).await {
                        tracing::debug!(%error, "a connection broke");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A spliced connection has a second descriptor, to its supervisor. As many as all of them take are left.
fn connections_max(handover: Handover) -> usize {
    let taken = match handover {
        Handover::Auto => 2,
        Handover::Never => 4,
    };
    let descriptors = getrlimit(Resource::Nofile).current;
    let most = descriptors.and_then(|descriptors| usize::try_from(descriptors / taken).ok());
    most.map_or(CONNECTIONS_MAX, |most| most.clamp(1, CONNECTIONS_MAX))
}

/// Serves one connection; a request that is under way when the end is asked for is the last one.
async fn connection(stream: Stream, peer: Peer, place: Place, manner: Manner) -> io::Result<()> {
    let router = TowerToHyperService::new(manner.router);
    let (under_way, mut requests) = watch::channel(0_usize);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(place.clone());
        path_token::take(&mut request);
        let (answer, under_way) = (router.call(request), &under_way);
        under_way.send_modify(|requests| *requests += 1);
        async move {
            let answer = answer.await;
            under_way.send_modify(|requests| *requests -= 1);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(manner.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        patience = manner.drain.asked() => {
            let request = timeout(patience, requests.wait_for(|requests| *requests > 0));
            let ended = tokio::select! {
                ended = &mut connection => Some(ended),
                // It is the last one.
                _ = request => None,
            };
            match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    ended.map_err(io::Error::other)
}
