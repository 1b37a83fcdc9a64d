//! Stands between the SDK and the host, where the SDK panics at what the host says: in the call to a
//! cluster, in the reply to one, and where a context is not of the kind that it was taken for.
//!
//! The SDK cannot be told to call these. `tools/trim-exports` directs its calls of `proxy_x` to
//! `guarded_proxy_x`, and exports `guarded_proxy_on_x` as `proxy_on_x`. A module that it has not seen
//! works too: there the SDK panics at what Envoy never says.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use proxy_wasm::types::{Action, PeerType};

use super::host::OK;
use crate::inspector::ById;

const INTERNAL_FAILURE: u32 = 10;

thread_local! {
    /// The calls under way, by token.
    static AWAITED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The contexts that were taken for connections.
    static CONNECTIONS: RefCell<HashSet<u32, ById>> = const {
        RefCell::new(HashSet::with_hasher(ById::new()))
    };
    /// How many were taken for HTTP streams: of those no more is kept, for a look-up would be a good part
    /// of what a request costs.
    static HTTP_STREAMS: Cell<usize> = const { Cell::new(0) };
}

/// A context that was taken for a connection, for as long as this lives.
pub(super) struct Connection(u32);

impl Connection {
    pub(super) fn new(context: u32) -> Self {
        with_connections(|connections| connections.insert(context));
        Self(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        with_connections(|connections| connections.remove(&self.0));
    }
}

/// A context that was taken for an HTTP stream, for as long as this lives.
pub(super) struct HttpStream(());

impl HttpStream {
    pub(super) fn new() -> Self {
        HTTP_STREAMS.set(HTTP_STREAMS.get().saturating_add(1));
        Self(())
    }
}

impl Drop for HttpStream {
    fn drop(&mut self) {
        HTTP_STREAMS.set(HTTP_STREAMS.get().saturating_sub(1));
    }
}

/// Nothing else borrows them at that time: `None` never comes, and costs no panic.
fn with_connections<T>(task: impl FnOnce(&mut HashSet<u32, ById>) -> T) -> Option<T> {
    CONNECTIONS.with(|connections| Some(task(&mut *connections.try_borrow_mut().ok()?)))
}

fn is_http_stream(context: u32) -> bool {
    with_connections(|connections| !connections.contains(&context)).unwrap_or_default()
}

fn is_connection(context: u32) -> bool {
    HTTP_STREAMS.get() == 0 || !is_http_stream(context)
}

/// The SDK panics at an event of a connection for what it has as an HTTP stream, and the other way
/// round. Which of them a context is, its properties say, and to read those may fail: then the stream goes
/// on unwatched.
macro_rules! guard_events {
    ($($guard:ident, if $is_kind:ident: $event:ident($($argument:ident: $type:ty),*) -> $result:ty, else $otherwise:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $guard(context: u32 $(, $argument: $type)*) -> $result {
                unsafe extern "C" {
                    /// The SDK's own.
                    fn $event(context: u32 $(, $argument: $type)*) -> $result;
                }
                match $is_kind(context) {
                    // SAFETY: the host's arguments, as they are.
                    true => unsafe { $event(context $(, $argument)*) },
                    false => $otherwise,
                }
            }
        )*
    };
}

guard_events! {
    guarded_proxy_on_request_headers, if is_http_stream:
        proxy_on_request_headers(headers: usize, end: bool) -> Action, else Action::Continue;
    guarded_proxy_on_response_headers, if is_http_stream:
        proxy_on_response_headers(headers: usize, end: bool) -> Action, else Action::Continue;
    guarded_proxy_on_downstream_data, if is_connection:
        proxy_on_downstream_data(size: usize, end: bool) -> Action, else Action::Continue;
    guarded_proxy_on_upstream_data, if is_connection:
        proxy_on_upstream_data(size: usize, end: bool) -> Action, else Action::Continue;
    guarded_proxy_on_downstream_connection_close, if is_connection:
        proxy_on_downstream_connection_close(peer: PeerType) -> (), else ();
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
}

unsafe extern "C" {
    /// The SDK's own.
    fn proxy_on_http_call_response(
        context: u32,
        token: u32,
        headers: usize,
        body: usize,
        trailers: usize,
    );
}

/// The SDK panics at a status that it does not expect, and at a token that it has met already.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    trailers: *const u8,
    trailers_size: usize,
    timeout: u32,
    token: *mut u32,
) -> u32 {
    // SAFETY: the caller's arguments, as they are; the SDK's token is valid for the call.
    let (status, token) = unsafe {
        let status = proxy_http_call(
            cluster,
            cluster_size,
            headers,
            headers_size,
            body,
            body_size,
            trailers,
            trailers_size,
            timeout,
            token,
        );
        (status, *token)
    };
    match status == OK && await_reply(token) {
        true => OK,
        false => INTERNAL_FAILURE,
    }
}

/// The SDK panics if this fails. Envoy has set the context already.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_set_effective_context(context: u32) -> u32 {
    // SAFETY: a plain number.
    unsafe { proxy_set_effective_context(context) };
    OK
}

/// The SDK panics at the reply to a call that it did not make.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_http_call_response(
    context: u32,
    token: u32,
    headers: usize,
    body: usize,
    trailers: usize,
) {
    if is_awaited(token) {
        // SAFETY: plain numbers.
        unsafe { proxy_on_http_call_response(context, token, headers, body, trailers) };
    }
}

/// Whether a call of this token was not under way already.
fn await_reply(token: u32) -> bool {
    AWAITED.with_borrow_mut(|awaited| {
        let fresh = !awaited.contains(&token);
        if fresh {
            awaited.push(token);
        }
        fresh
    })
}

/// Whether a call of this token was under way. It no longer is.
fn is_awaited(token: u32) -> bool {
    AWAITED.with_borrow_mut(|awaited| {
        let before = awaited.len();
        awaited.retain(|other| *other != token);
        awaited.len() < before
    })
}
