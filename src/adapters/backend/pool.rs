//! Connections to members: kept while they are of use, closed when they are not.
//!
//! Promises: a connection goes to exactly the address that was found for its member; one on which
//! anything is left over, or that was made with certificates of before, is never used again; a
//! certificate is always checked against a name. Called by [`super::carry`] and [`super::health`].

use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1;
use pingora::connectors::http::v2;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;
use pingora::upstreams::peer::Peer;

use super::members::Member;
use super::tls::Trust;

/// Exchanges at once on one HTTP/2 connection.
const STREAMS_MAX: usize = 64;

/// Whether HTTP/2 is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// When the backend agrees to it while TLS is set up.
    Auto,
    /// Never.
    Never,
    /// Always; without TLS too.
    Only,
}

/// How to reach the members of one backend.
pub(super) struct Pool {
    h1: v1::Connector,
    h2: v2::Connector,
    http2: Http2,
    connect: Duration,
    idle: Duration,
}

impl Pool {
    pub(super) fn new(connections: usize, http2: Http2, connect: Duration, idle: Duration) -> Self {
        let options = || Some(ConnectorOptions::new(connections));
        Self { h1: v1::Connector::new(options()), h2: v2::Connector::new(options()), http2, connect, idle }
    }

    /// The member as pingora takes it. Fails where TLS has no name to check.
    pub(super) fn peer(&self, member: &Member, trust: &Trust, name: Option<&str>) -> Result<HttpPeer, String> {
        let tls = member.place.tls;
        // WHY: pingora checks nothing at all of a peer without a name.
        let name = name.or(member.place.bare()).filter(|name| !name.is_empty());
        let name = match (tls, name) {
            (true, None) => return Err("TLS needs a name to check".to_owned()),
            (_, name) => name.unwrap_or_default().to_owned(),
        };
        let mut peer = match &member.address {
            SocketAddr::Inet(address) => HttpPeer::new(address, tls, name),
            SocketAddr::Unix(_) => {
                let path = member.address.as_unix().and_then(|address| address.as_pathname());
                let path = path.and_then(|path| path.to_str()).ok_or("the socket's path is not text")?;
                HttpPeer::new_uds(path, tls, name).map_err(|cause| cause.to_string())?
            }
        };
        peer.options.connection_timeout = Some(self.connect);
        peer.options.total_connection_timeout = Some(self.connect);
        peer.options.max_h2_streams = STREAMS_MAX;
        peer.options.alpn = match self.http2 {
            Http2::Auto if tls => ALPN::H2H1,
            Http2::Auto | Http2::Never => ALPN::H1,
            Http2::Only => ALPN::H2,
        };
        peer.options.ca.clone_from(&trust.ca);
        peer.client_cert_key.clone_from(&trust.own);
        // WHY: connections are kept by peer and group, and a peer does not tell authorities apart.
        peer.group_key = trust.generation;
        Ok(peer)
    }

    /// A connection, and whether it was used before; `fresh` asks for one that was not.
    pub(super) async fn session(&self, peer: &HttpPeer, fresh: bool) -> pingora::Result<(HttpSession, bool)> {
        if !fresh {
            if peer.options.alpn != ALPN::H1
                // One that has gone dead by now is no reason not to make another.
                && let Ok(Some(session)) = self.h2.reused_http_session(peer).await
            {
                return Ok((HttpSession::H2(session), true));
            }
            if peer.options.alpn != ALPN::H2
                && let Some(session) = self.h1.reused_http_session(peer).await
            {
                return Ok((HttpSession::H1(session), true));
            }
        }
        let session = self.h2.new_http_session(peer).await?;
        if peer.options.alpn == ALPN::H2 && session.as_http2().is_none() {
            return pingora::Error::e_explain(pingora::ErrorType::H2Downgrade, "it does not speak HTTP/2");
        }
        Ok((session, false))
    }

    /// Keeps a connection for the next exchange, if it is fit for one.
    pub(super) async fn keep(&self, session: HttpSession, peer: &HttpPeer) {
        match session {
            HttpSession::H1(session) => self.h1.release_http_session(session, peer, Some(self.idle)).await,
            HttpSession::H2(session) => self.h2.release_http_session(session, peer, Some(self.idle)),
            HttpSession::Custom(()) => {}
        }
    }

    /// Closes what is idle; what is under way ends by itself and is not kept.
    pub(super) async fn drain(&self, peer: &HttpPeer) {
        while self.h1.reused_http_session(peer).await.is_some() {}
        // The last hold on a connection closes it when its exchanges have ended.
        while self.h2.idle_pool().get(&peer.reuse_hash()).is_some() {}
        while self.h2.in_use_pool().get(peer.reuse_hash()).is_some() {}
    }
}
