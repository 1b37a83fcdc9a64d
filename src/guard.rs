//! The callbacks that Envoy calls in place of the SDK's own.
//!
//! The SDK exports `proxy_on_x` for every callback of the ABI. Here `guarded_proxy_on_x` is exported, and
//! `tools/postlink` puts it in the place of `proxy_on_x` after linking; the names are listed there, too.
//! The picture is in docs/module-link.md.
//!
//! Events of streams go from here to [`streams`], replies to [`root`]. The SDK gets root contexts, their
//! configuration and their ticks.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ptr::{self, NonNull};

use proxy_wasm::types::{Action, PeerType};

use crate::context::{RootId, StreamId};
use crate::{root, streams};
use mtls_watch_core::inspector::Event;

thread_local! {
    /// The root contexts that the SDK has.
    static ROOTS: RefCell<Vec<RootId>> = const { RefCell::new(Vec::new()) };
}

/// Whether a root context came by the guards. It does not in a module that `tools/postlink` has not
/// finished.
pub(crate) fn has_root(context: RootId) -> bool {
    ROOTS.with_borrow(|roots| roots.contains(&context))
}

/// The SDK takes the memory by a vector, and with it the code that lets a vector grow and shrink.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        Ok(_) if size == 0 => NonNull::dangling().as_ptr(),
        // SAFETY: the size is not 0.
        Ok(layout) => unsafe { alloc::alloc(layout) },
        Err(_) => ptr::null_mut(),
    }
}

/// The SDK gets the root contexts only, each once: it panics at the second.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_context_create(context: u32, root: u32) {
    unsafe extern "C" {
        /// The SDK's own.
        fn proxy_on_context_create(context: u32, root: u32);
    }
    if root != 0 {
        streams::on_create(StreamId(context), RootId(root));
    } else if !has_root(RootId(context)) {
        ROOTS.with_borrow_mut(|roots| roots.push(RootId(context)));
        // SAFETY: plain numbers.
        unsafe { proxy_on_context_create(context, root) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_request_headers(
    context: StreamId,
    _headers: usize,
    _end: bool,
) -> Action {
    streams::on_request_headers(context)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_response_headers(
    context: StreamId,
    _headers: usize,
    _end: bool,
) -> Action {
    streams::on_response_headers(context)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_downstream_data(
    context: StreamId,
    size: usize,
    end: bool,
) -> Action {
    streams::on_downstream_data(context, size, end)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_upstream_data(
    context: StreamId,
    _size: usize,
    _end: bool,
) -> Action {
    streams::on_connection(context, Event::UpstreamData)
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_downstream_connection_close(context: StreamId, peer: PeerType) {
    let by_client = peer == PeerType::Remote;
    streams::on_connection(context, Event::Close { by_client });
}

#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_log(context: StreamId) {
    streams::on_log(context);
}

/// The SDK hands over replies to its own calls only, and panics at any other. Ours are made in
/// `host`, and who made them knows which reply is his.
#[unsafe(no_mangle)]
extern "C" fn guarded_proxy_on_http_call_response(
    root: RootId,
    token: u32,
    headers: usize,
    body: usize,
    _trailers: usize,
) {
    root::on_reply(root, token, headers, body);
}
