//! Stands between the SDK and the host: leads the events of streams past the SDK, and keeps from it what it
//! would panic at: the call to a cluster, the reply to one, and a context that it has or does not have.
//!
//! The SDK cannot be told to call these. `tools/postlink` directs its calls of `proxy_x` to
//! `guarded_proxy_x`, and exports `guarded_proxy_on_x` as `proxy_on_x`. A module that it has not seen
//! works too: there the events come through the SDK, and it panics at what Envoy never says.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ptr::{self, NonNull};
use std::thread::LocalKey;

use proxy_wasm::types::{Action, PeerType};

use crate::host::OK;
use crate::streams;
use mtls_watch_core::inspector::Event;

const INTERNAL_FAILURE: u32 = 10;

thread_local! {
    /// The calls under way, by token.
    static AWAITED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The root contexts that the SDK has.
    static ROOTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// The SDK takes memory for an answer by a vector, which could also grow and shrink.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        Ok(_) if size == 0 => NonNull::dangling().as_ptr(),
        // SAFETY: the size is not 0.
        Ok(layout) => unsafe { alloc::alloc(layout) },
        Err(_) => ptr::null_mut(),
    }
}

/// The SDK gets the root contexts only, each once.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_context_create(context: u32, root: u32) {
    unsafe extern "C" {
        /// The SDK's own.
        fn proxy_on_context_create(context: u32, root: u32);
    }
    if root != 0 {
        streams::on_create(context, root);
    } else if add(&ROOTS, context) {
        // SAFETY: plain numbers.
        unsafe { proxy_on_context_create(context, root) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_request_headers(
    context: u32,
    _headers: usize,
    _end: bool,
) -> Action {
    streams::on_request_headers(context)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_response_headers(
    context: u32,
    _headers: usize,
    _end: bool,
) -> Action {
    streams::on_response_headers(context)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_downstream_data(context: u32, size: usize, end: bool) -> Action {
    streams::on_downstream_data(context, size, end)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_upstream_data(context: u32, _size: usize, _end: bool) -> Action {
    streams::on_connection(context, Event::UpstreamData)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_downstream_connection_close(context: u32, peer: PeerType) {
    let by_client = peer == PeerType::Remote;
    streams::on_connection(context, Event::Close { by_client });
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_log(context: u32) {
    streams::on_log(context);
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
    match status == OK && add(&AWAITED, token) {
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

/// Whether a call of this token was under way. It no longer is.
fn is_awaited(token: u32) -> bool {
    AWAITED.with_borrow_mut(|awaited| {
        let before = awaited.len();
        awaited.retain(|other| *other != token);
        awaited.len() < before
    })
}

/// Whether the number was not in the list. Now it is.
fn add(list: &'static LocalKey<RefCell<Vec<u32>>>, number: u32) -> bool {
    list.with_borrow_mut(|list| {
        let is_new = !list.contains(&number);
        if is_new {
            list.push(number);
        }
        is_new
    })
}
