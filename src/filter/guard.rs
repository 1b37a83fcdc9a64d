//! Stands between the SDK and the host, where the SDK panics at what the host says: in the call to a
//! cluster, and in the reply to one.
//!
//! The SDK cannot be told to call these. `tools/trim-exports` directs its calls of `proxy_x` to
//! `guarded_proxy_x`, and exports `guarded_proxy_on_x` as `proxy_on_x`. A module that it has not seen
//! works too: there the SDK panics at what Envoy never says.

#![allow(unsafe_code)]

use std::cell::RefCell;

use super::host::OK;

const INTERNAL_FAILURE: u32 = 10;

thread_local! {
    /// The calls under way, by token.
    static AWAITED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
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
