//! The Proxy-Wasm host calls (ABI 0.2.1), and [`Host`] on top of them.
//!
//! The SDK's own wrappers panic at any status they do not expect, and read it into an enum that lacks
//! some of the codes. A panic here is an outage of the worker, so the calls are declared again, with
//! the status as the number it is. With `guard`, the only file of the module with unsafe code.

#![allow(unsafe_code)]

use std::ptr;

use mtls_watch_core::host::{Host, MetricId, MetricKind, Shared, Version};
use mtls_watch_core::own::parts::Body;
use mtls_watch_x509::time::UnixTime;

const OK: u32 = 0;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;

const MAP_REQUEST_HEADERS: u32 = 0;
const MAP_RESPONSE_HEADERS: u32 = 2;
const MAP_HTTP_CALL_RESPONSE_HEADERS: u32 = 6;
const BUFFER_HTTP_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const STREAM_DOWNSTREAM: u32 = 2;
const NO_GRPC_STATUS: i32 = -1;

/// The admin interface answers in milliseconds, unless the main thread is busy.
const CALL_TIMEOUT_MILLISECONDS: u32 = 5_000;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, value_size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_send_local_response(
        code: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
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
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
}

/// The proxy around this VM.
pub(crate) struct Proxy;

impl Host for Proxy {
    fn now(&self) -> Option<UnixTime> {
        let seconds = i64::try_from(self.nanoseconds()? / 1_000_000_000).ok()?;
        (seconds > 0).then_some(UnixTime(seconds))
    }

    fn nanoseconds(&self) -> Option<u64> {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) };
        (status == OK).then_some(nanoseconds)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let joined;
        let path = match path {
            // What is asked at every request is a name of its own.
            [name] => *name,
            segments => {
                joined = segments.join("\0");
                &joined
            }
        };
        // SAFETY: the path is valid for the call; the result is handled by `received`.
        received(|value, size| unsafe {
            proxy_get_property(path.as_ptr(), path.len(), value, size)
        })
        .filter(|value| !value.is_empty())
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) {
        // SAFETY: both are valid for the call.
        unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn declare_connection_state(&self, name: &str) -> bool {
        const FUNCTION: &str = "declare_property";
        let Ok(name_size) = u8::try_from(name.len()) else {
            return false;
        };
        // Envoy's message DeclarePropertyArguments: the name (field 1), and the life span (field 5),
        // of which 2 is the downstream connection's.
        let mut arguments = vec![0x0a, name_size];
        arguments.extend_from_slice(name.as_bytes());
        arguments.extend_from_slice(&[0x28, 2]);
        let mut status = OK;
        // SAFETY: name and arguments are valid for the call; there is no result, and if there were
        // it would be handled by `received`.
        received(|value, size| unsafe {
            let (function, function_size) = (FUNCTION.as_ptr(), FUNCTION.len());
            let (arguments, arguments_size) = (arguments.as_ptr(), arguments.len());
            status = proxy_call_foreign_function(
                function,
                function_size,
                arguments,
                arguments_size,
                value,
                size,
            );
            status
        });
        // It has been declared before, by a configuration with the same root context.
        status == OK || status == BAD_ARGUMENT
    }

    fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        // SAFETY: the name is valid for the call; the result is handled by `received`.
        received(|value, size| unsafe {
            let (name, name_size) = (name.as_ptr(), name.len());
            proxy_get_header_map_value(MAP_REQUEST_HEADERS, name, name_size, value, size)
        })
        .filter(|value| !value.is_empty())
    }

    fn set_request_header(&self, name: &str, value: Option<&[u8]>) {
        set_header(MAP_REQUEST_HEADERS, name, value);
    }

    fn set_response_header(&self, name: &str, value: Option<&[u8]>) {
        set_header(MAP_RESPONSE_HEADERS, name, value);
    }

    fn request_header_names(&self) -> Vec<Vec<u8>> {
        header_names(MAP_REQUEST_HEADERS)
    }

    fn response_header_names(&self) -> Vec<Vec<u8>> {
        header_names(MAP_RESPONSE_HEADERS)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<MetricId> {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 2,
        };
        let mut id = 0;
        // SAFETY: name and id are valid for the call.
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
        (status == OK).then_some(MetricId(id))
    }

    fn increment(&self, metric: MetricId) {
        // SAFETY: plain numbers.
        unsafe { proxy_increment_metric(metric.0, 1) };
    }

    fn record(&self, metric: MetricId, value: u64) {
        // SAFETY: plain numbers.
        unsafe { proxy_record_metric(metric.0, value) };
    }

    fn shared(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let mut cas = 0;
        // SAFETY: key and version are valid for the call; the result is handled by `received`.
        let value = received(|value, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &mut cas)
        });
        (value, Version(cas))
    }

    fn call(&self, cluster: &str, path: &str) -> Option<u32> {
        let headers = pairs(&[(":method", "GET"), (":path", path), (":authority", cluster)])?;
        let mut token = 0;
        // SAFETY: cluster, headers and token are valid for the call; there is no body and no trailer.
        let status = unsafe {
            proxy_http_call(
                cluster.as_ptr(),
                cluster.len(),
                headers.as_ptr(),
                headers.len(),
                ptr::null(),
                0,
                ptr::null(),
                0,
                CALL_TIMEOUT_MILLISECONDS,
                &mut token,
            )
        };
        (status == OK).then_some(token)
    }

    fn share(&self, key: &str, value: &[u8], version: Version) -> Shared {
        // SAFETY: key and value are valid for the call.
        let status = unsafe {
            proxy_set_shared_data(
                key.as_ptr(),
                key.len(),
                value.as_ptr(),
                value.len(),
                version.0,
            )
        };
        match status {
            OK => Shared::Stored,
            CAS_MISMATCH => Shared::Conflict,
            _ => Shared::Refused,
        }
    }
}

/// The status of the reply that is being handled.
pub(crate) fn reply_status() -> Option<Vec<u8>> {
    const STATUS: &str = ":status";
    // SAFETY: the name is valid for the call; the result is handled by `received`.
    received(|value, size| unsafe {
        let (name, name_size) = (STATUS.as_ptr(), STATUS.len());
        proxy_get_header_map_value(MAP_HTTP_CALL_RESPONSE_HEADERS, name, name_size, value, size)
    })
}

/// The body of the reply that is being handled, from the beginning.
pub(crate) struct ReplyBody {
    read: usize,
}

impl ReplyBody {
    const RANGE: usize = 32 * 1024;

    /// None of it has been read.
    pub(crate) fn new() -> Self {
        // The memory for a range is there from the first reply on, however short that is.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(Self::RANGE)));
        Self { read: 0 }
    }
}

impl Body for ReplyBody {
    fn next(&mut self) -> Option<Vec<u8>> {
        let start = self.read;
        // SAFETY: plain numbers; the result is handled by `received`.
        let range = received(|value, size| unsafe {
            proxy_get_buffer_bytes(
                BUFFER_HTTP_CALL_RESPONSE_BODY,
                start,
                Self::RANGE,
                value,
                size,
            )
        });
        let range = range.filter(|range| !range.is_empty())?;
        self.read = start.saturating_add(range.len());
        Some(range)
    }
}

/// The configuration of this plugin; empty if there is none.
pub(crate) fn plugin_configuration() -> Vec<u8> {
    // SAFETY: plain numbers; the result is handled by `received`.
    received(|value, size| unsafe {
        proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, usize::MAX, value, size)
    })
    .unwrap_or_default()
}

/// Asks for a tick every so many milliseconds.
pub(crate) fn set_tick_period(milliseconds: u32) {
    // SAFETY: a plain number.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

/// Answers the request (or replaces the response) with 403.
pub(crate) fn deny_request() {
    const DETAILS: &str = "mtls_watch_denied";
    const BODY: &str = "peer certificate refused\n";
    // SAFETY: the texts are static; there are no additional headers.
    unsafe {
        proxy_send_local_response(
            403,
            DETAILS.as_ptr(),
            DETAILS.len(),
            BODY.as_ptr(),
            BODY.len(),
            ptr::null(),
            0,
            NO_GRPC_STATUS,
        )
    };
}

/// Has the host calls that follow be about another context. Whether it exists.
pub(crate) fn set_effective_context(context: u32) -> bool {
    // SAFETY: a plain number.
    unsafe { proxy_set_effective_context(context) == OK }
}

/// Closes the connection with the client.
pub(crate) fn close_connection() {
    // SAFETY: a plain number.
    unsafe { proxy_close_stream(STREAM_DOWNSTREAM) };
}

/// The level that Envoy logs at.
pub(crate) fn log_level() -> log::LevelFilter {
    let mut level = 0;
    // SAFETY: the pointer is valid for the call.
    let status = unsafe { proxy_get_log_level(&mut level) };
    match (status, level) {
        (OK, 0) => log::LevelFilter::Trace,
        (OK, 1) => log::LevelFilter::Debug,
        (OK, 2) => log::LevelFilter::Info,
        (OK, 4) => log::LevelFilter::Error,
        (OK, 5) => log::LevelFilter::Off,
        _ => log::LevelFilter::Warn,
    }
}

/// Writes a line to Envoy's log.
pub(crate) fn write_log(level: log::Level, line: &str) {
    let level = match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    };
    // SAFETY: the line is valid for the call.
    unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// Headers as the ABI has them: their number, the sizes of each name and value, then these, each with a 0
/// behind it.
fn pairs(headers: &[(&str, &str)]) -> Option<Vec<u8>> {
    let size = |length: usize| Some(u32::try_from(length).ok()?.to_le_bytes());
    let mut bytes = size(headers.len())?.to_vec();
    for (name, value) in headers {
        bytes.extend_from_slice(&size(name.len())?);
        bytes.extend_from_slice(&size(value.len())?);
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    Some(bytes)
}

fn header_names(map: u32) -> Vec<Vec<u8>> {
    // SAFETY: plain numbers; the result is handled by `received`.
    let pairs = received(|value, size| unsafe { proxy_get_header_map_pairs(map, value, size) });
    pairs.and_then(|pairs| names_in(&pairs)).unwrap_or_default()
}

/// The names in what [`pairs`] writes.
fn names_in(pairs: &[u8]) -> Option<Vec<Vec<u8>>> {
    let size = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).ok();
    let (count, rest) = pairs.split_first_chunk()?;
    let (sizes, mut rest) = rest.split_at_checked(size(*count)?.checked_mul(8)?)?;
    let sizes = sizes.as_chunks().0.as_chunks().0;
    let mut names = Vec::with_capacity(sizes.len());
    for [name_size, value_size] in sizes {
        let (name, after) = rest.split_at_checked(size(*name_size)?)?;
        names.push(name.to_vec());
        rest = after.get(size(*value_size)?.checked_add(2)?..)?;
    }
    Some(names)
}

fn set_header(map: u32, name: &str, value: Option<&[u8]>) {
    let (key, key_size) = (name.as_ptr(), name.len());
    // SAFETY: name and value are valid for the call.
    unsafe {
        match value {
            Some(value) => {
                proxy_replace_header_map_value(map, key, key_size, value.as_ptr(), value.len())
            }
            None => proxy_remove_header_map_value(map, key, key_size),
        }
    };
}

/// Takes over the bytes that a host call returns. `None` if it failed or returned nothing.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut value: *mut u8 = ptr::null_mut();
    let mut size = 0;
    let status = call(&mut value, &mut size);
    if status != OK || value.is_null() {
        return None;
    }
    // SAFETY: the host obtained the memory from `proxy_on_memory_allocate`, which is the allocator of
    // Vec with exactly that size, and handed it over.
    Some(unsafe { Vec::from_raw_parts(value, size, size) })
}
