//! One HTTP/2 connection: its streams, each a request under the rules of every other.
//!
//! Promises: bounded in streams, header bytes, unread and unsent bytes, resets and malformed
//! requests, so that neither rapid resets nor endless headers cost more than a connection; all
//! streams of all connections share the door's seats; a reset cancels the call and nothing else. A
//! connection at rest, or one that only sends frames which ask for nothing, is closed in time. The
//! protocol itself is the h2 crate's, as pingora wraps it. Called by `adapters::door`.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::adapters::door::conversation::{Conversation, Gone};
use crate::adapters::door::wire::Wire;
use crate::adapters::door::{DoorLimits, framing, note_panic, told_to_close};
use crate::domain::refusal::Fault;
use crate::pep::arrival::Turned;

/// Streams of one connection at once; an agent with more calls under way waits for its own.
const STREAMS_MAX: u32 = 32;
/// Calls of one connection at once, those whose streams were reset among them: without it, resets
/// would make room for ever more.
const CALLS_MAX: usize = 2 * STREAMS_MAX as usize;
/// Bytes of one stream, and of one connection, that wait to be read here.
const WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of one stream that wait to be read by the client.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Requests that may be reset, or be malformed, beyond those that were answered.
const PATIENCE: u32 = 64;
/// How long a client has to go once it was told to.
const GOODBYE: Duration = Duration::from_secs(1);

/// What became of one stream.
enum Ended {
    Answered,
    Reset,
}

/// Serves one connection until it ends.
pub(super) async fn serve(conversation: Arc<Conversation>, wire: Wire) {
    let house = Arc::clone(&conversation.house);
    let (gate, peer, limits) = (Arc::clone(&house.gate), conversation.peer, house.limits);
    let begun = timeout(limits.read_within, handshake(Box::new(wire), Some(options(&limits)))).await;
    let Ok(Ok(mut connection)) = begun else {
        let cause = if begun.is_err() { Turned::TooSlow } else { Turned::Http2 };
        return gate.turned_away(cause, peer).await;
    };
    let digest = Arc::new(Digest::default());
    let mut streams = JoinSet::new();
    let (mut patience, mut closing, mut leaving) = (PATIENCE, house.closing.clone(), false);
    let mut idle_at = Instant::now() + limits.keep_alive;
    while patience > 0 {
        // Whoever loses has taken nothing: accepting a stream is cancel-safe, and so is all else here.
        tokio::select! {
            biased;
            () = told_to_close(&mut closing), if !leaving => {
                connection.graceful_shutdown();
                leaving = true;
                idle_at = Instant::now() + GOODBYE;
            }
            Some(ended) = streams.join_next(), if !streams.is_empty() => {
                match ended {
                    Ok(Ended::Answered) => patience = PATIENCE.min(patience + 1),
                    Ok(Ended::Reset) => patience -= 1,
                    Err(error) => note_panic("stream", Err(error)),
                }
                idle_at = Instant::now() + if leaving { GOODBYE } else { limits.keep_alive };
            }
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted {
                // Dropped, which resets it; it counts as if the client had.
                Ok(Some(H2Accept::Session(_))) if streams.len() >= CALLS_MAX => patience -= 1,
                Ok(Some(H2Accept::Session(session))) => {
                    let session = Box::new(ServerSession::new_http2(session));
                    streams.spawn(request(Arc::clone(&conversation), session));
                }
                Ok(Some(H2Accept::Rejected)) => {
                    patience -= 1;
                    gate.turned_away(Turned::Malformed, peer).await;
                }
                // The client has gone, or broke the protocol and was told so.
                Ok(None) | Err(_) => break,
            },
            () = sleep_until(idle_at), if streams.is_empty() => break,
        }
    }
    if patience == 0 {
        gate.turned_away(Turned::Http2, peer).await;
        connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        // The client may not read it, and is gone all the same.
        let _told = timeout(GOODBYE, HttpSession::from_h2_conn(&mut connection, digest)).await;
    }
    drop(connection);
    while let Some(ended) = streams.join_next().await {
        note_panic("stream", ended.map(|_| ()));
    }
}

fn options(limits: &DoorLimits) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(UNSENT_BYTES_MAX);
    options
}

/// One stream.
async fn request(conversation: Arc<Conversation>, mut session: Box<ServerSession>) -> Ended {
    let house = &conversation.house;
    let due = Instant::now() + house.limits.read_within;
    let outcome = match framing::read_http2(session.req_header()) {
        Err(fault) => conversation.refuse(&mut session, &fault).await,
        Ok(framing) => match timeout_at(due, Arc::clone(&house.streams).acquire_owned()).await {
            Ok(Ok(seat)) => conversation.exchange(&mut session, framing, due, Some(seat)).await,
            // Too long a wait; the seats themselves never go.
            Err(_) | Ok(Err(_)) => conversation.refuse(&mut session, &busy()).await,
        },
    };
    match outcome {
        Ok(_) => Ended::Answered,
        Err(Gone) => Ended::Reset,
    }
}

fn busy() -> Fault {
    Fault::new(503, -32603, "the gateway has no room for one more request; try again in a few seconds")
}
