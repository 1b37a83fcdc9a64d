//! The floor of what mtls-watch can cost in Envoy: its callbacks and its host calls, for a client that it knows, and
//! no work in between. `make bench` shows both. `tests/module/floor.rs` compares the host calls.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ptr;

const CONTINUE: u32 = 0;
const REQUEST_HEADERS: u32 = 0;
const COUNTER: u32 = 0;
const HISTOGRAM: u32 = 2;

/// The filter state that says which connection a request is on, and what is there for access logs.
const NUMBER: &str = "bare.number";
const SHOWN: [&str; 3] = ["bare.status", "bare.identity", "bare.findings"];

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_property(
        path: *const u8,
        size: usize,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_set_property(path: *const u8, size: usize, value: *const u8, length: usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        size: usize,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        size: usize,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
}

thread_local! {
    static COUNTERS: Cell<[u32; 3]> = const { Cell::new([0; 3]) };
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
    /// Connections of which the client has been looked at.
    static SEEN: RefCell<HashSet<u32>> = RefCell::default();
}

/// The length of an answer, whose bytes are dropped.
fn answered(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> usize {
    let (mut value, mut length) = (ptr::null_mut(), 0);
    if call(&mut value, &mut length) == 0 && !value.is_null() {
        // SAFETY: the host got it from `proxy_on_memory_allocate` with that length.
        drop(unsafe { Vec::from_raw_parts(value, length, length) });
    }
    length
}

fn property(path: &str) -> usize {
    // SAFETY: the path is valid for the call.
    answered(|value, length| unsafe {
        proxy_get_property(path.as_ptr(), path.len(), value, length)
    })
}

fn set_filter_state(name: &str, value: &[u8]) {
    // SAFETY: both are valid for the call.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

fn clock() -> u64 {
    let mut time = 0;
    // SAFETY: the place is valid for the call.
    unsafe { proxy_get_current_time_nanoseconds(&mut time) };
    time
}

fn increment(counter: usize) {
    // SAFETY: plain numbers.
    unsafe { proxy_increment_metric(COUNTERS.get()[counter], 1) };
}

/// The lifetime that is left, as the histogram has it.
fn record(value: u64) {
    // SAFETY: plain numbers.
    unsafe { proxy_record_metric(COUNTERS.get()[2], value) };
}

fn show(names: &[&str]) {
    for name in names {
        set_filter_state(name, b"ok");
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the size is not 0.
        Ok(layout) if size > 0 => unsafe { alloc(layout) },
        _ => ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_context: u32, _size: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_context: u32, _size: usize) -> bool {
    const FUNCTION: &str = "declare_property";
    let define = |kind, name: &str| {
        let mut id = 0;
        // SAFETY: the name is valid for the call.
        unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
        id
    };
    let counters = ["bare_total", "bare_issuers_total"].map(|name| define(COUNTER, name));
    COUNTERS.set([counters[0], counters[1], define(HISTOGRAM, "bare_seconds")]);
    for name in SHOWN.into_iter().chain([NUMBER]) {
        // Envoy's message DeclarePropertyArguments: the name, and the life span of the downstream connection.
        let mut arguments = vec![0x0a, name.len() as u8];
        arguments.extend_from_slice(name.as_bytes());
        arguments.extend_from_slice(&[0x28, 2]);
        // SAFETY: name and arguments are valid for the call.
        answered(|value, length| unsafe {
            let (function, size) = (FUNCTION.as_ptr(), FUNCTION.len());
            proxy_call_foreign_function(
                function,
                size,
                arguments.as_ptr(),
                arguments.len(),
                value,
                length,
            )
        });
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(_context: u32, _root: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _headers: usize, _end: bool) -> u32 {
    const XFCC: &str = "x-forwarded-client-cert";
    if property(NUMBER) == 0 {
        property("upstream\0address");
        property("xds\0listener_direction");
        // SAFETY: the key is valid for the call.
        answered(|value, length| unsafe {
            proxy_get_header_map_value(REQUEST_HEADERS, XFCC.as_ptr(), XFCC.len(), value, length)
        });
        property("connection\0sha256_peer_certificate_digest");
        property("bare.seen");
        property("request\0time");
        clock();
        record(clock());
        LAST_NUMBER.set(LAST_NUMBER.get() + 1);
        set_filter_state(NUMBER, &LAST_NUMBER.get().to_le_bytes());
        show(&SHOWN);
    }
    clock();
    increment(0);
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_context: u32, _headers: usize, _end: bool) -> u32 {
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(context: u32, _size: usize, _end: bool) -> u32 {
    if SEEN.with_borrow_mut(|seen| seen.insert(context)) {
        property("xds\0listener_direction");
        property("connection\0sha256_peer_certificate_digest");
        property("bare.seen");
        record(clock());
        show(&SHOWN);
        set_filter_state("bare.seen", b"1");
        increment(0);
        increment(1);
        increment(1);
    }
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(_context: u32, _size: usize, _end: bool) -> u32 {
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(context: u32, _by: u32) {
    SEEN.with_borrow_mut(|seen| seen.remove(&context));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(_context: u32) {}
