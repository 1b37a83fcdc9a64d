//! The Proxy-Wasm host functions: module `env`.
//!
//! Those that mtls-watch has a use for. See [`super::offered`] for the rest.

use std::time::Duration;

use wasmtime::{Linker, Result};

use super::{
    BAD_ARGUMENT, CAS_MISMATCH, Fault, Headers, Host, HttpCall, INVALID_MEMORY_ACCESS, Metric,
    NOT_FOUND, OK, ROOT, Status,
};
use crate::attributes;

type Caller<'a> = wasmtime::Caller<'a, Host>;
type Answer<T = ()> = std::result::Result<T, Status>;

const ENV: &str = "env";

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const HTTP_CALL_RESPONSE_HEADERS: u32 = 6;
const HTTP_CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;

/// The low bits of a metric id are its type, as in Envoy.
const TYPE_MASK: u32 = 3;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(ENV, "proxy_log", log)?;
    linker.func_wrap(ENV, "proxy_get_log_level", get_log_level)?;
    linker.func_wrap(ENV, "proxy_get_current_time_nanoseconds", get_current_time)?;
    linker.func_wrap(ENV, "proxy_set_tick_period_milliseconds", set_tick_period)?;
    linker.func_wrap(ENV, "proxy_get_buffer_bytes", get_buffer_bytes)?;
    linker.func_wrap(ENV, "proxy_get_property", get_property)?;
    linker.func_wrap(ENV, "proxy_set_property", set_property)?;
    linker.func_wrap(ENV, "proxy_get_header_map_value", get_header)?;
    linker.func_wrap(ENV, "proxy_get_header_map_pairs", get_headers)?;
    linker.func_wrap(ENV, "proxy_add_header_map_value", add_header)?;
    linker.func_wrap(ENV, "proxy_replace_header_map_value", replace_header)?;
    linker.func_wrap(ENV, "proxy_remove_header_map_value", remove_header)?;
    linker.func_wrap(ENV, "proxy_define_metric", define_metric)?;
    linker.func_wrap(ENV, "proxy_increment_metric", increment_metric)?;
    linker.func_wrap(ENV, "proxy_record_metric", record_metric)?;
    linker.func_wrap(ENV, "proxy_get_metric", get_metric)?;
    linker.func_wrap(ENV, "proxy_get_shared_data", get_shared_data)?;
    linker.func_wrap(ENV, "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap(ENV, "proxy_send_local_response", send_local_response)?;
    linker.func_wrap(ENV, "proxy_close_stream", close_stream)?;
    linker.func_wrap(ENV, "proxy_http_call", http_call)?;
    linker.func_wrap(ENV, "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap(ENV, "proxy_call_foreign_function", call_foreign_function)?;
    Ok(())
}

fn log(mut caller: Caller, level: u32, text: u32, size: u32) -> Status {
    answer(&mut caller, "proxy_log", |caller| {
        let text = read(caller, text, size)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        caller.data_mut().logs.push((level, text));
        Ok(())
    })
}

fn get_log_level(mut caller: Caller, level: u32) -> Status {
    answer(&mut caller, "proxy_get_log_level", |caller| {
        write(caller, level, &0_u32.to_le_bytes())
    })
}

fn get_current_time(mut caller: Caller, time: u32) -> Status {
    answer(
        &mut caller,
        "proxy_get_current_time_nanoseconds",
        |caller| {
            let now = caller.data().proxy.0.borrow().nanoseconds;
            write(caller, time, &now.to_le_bytes())
        },
    )
}

fn set_tick_period(mut caller: Caller, milliseconds: u32) -> Status {
    answer(
        &mut caller,
        "proxy_set_tick_period_milliseconds",
        |caller| {
            let period = Duration::from_millis(milliseconds.into());
            caller.data_mut().tick_period = Some(period);
            Ok(())
        },
    )
}

fn get_buffer_bytes(
    mut caller: Caller,
    buffer: u32,
    start: u32,
    length: u32,
    data: u32,
    size: u32,
) -> Status {
    let out = (data, size);
    answer_bytes(&mut caller, "proxy_get_buffer_bytes", out, |caller| {
        let host = caller.data();
        let content = match (buffer, &host.reply) {
            (PLUGIN_CONFIGURATION, _) => &host.configuration,
            (HTTP_CALL_RESPONSE_BODY, Some(reply)) => &reply.body,
            _ => return Err(NOT_FOUND),
        };
        let wanted = content.iter().skip(start as usize).take(length as usize);
        Ok(wanted.copied().collect())
    })
}

fn get_property(mut caller: Caller, path: u32, length: u32, data: u32, size: u32) -> Status {
    let out = (data, size);
    answer_bytes(&mut caller, "proxy_get_property", out, |caller| {
        let path = read(caller, path, length)?;
        let host = caller.data_mut();
        let dotted = attributes::decode(&path);
        *host.reads.entry(dotted.clone()).or_default() += 1;
        let connection = host.connection();
        let stream = host.stream();
        // Before a request is on its way there is no server.
        let too_early = stream.attributes.is_http()
            && !stream.attributes.is_behind_router()
            && stream.response_headers.is_none();
        if too_early && dotted.starts_with("upstream.") {
            return Err(NOT_FOUND);
        }
        // Filter state that a module has set is read back by the same path.
        let value = stream.attributes.get(&path);
        let value = value.or_else(|| stream.filter_state.get(&dotted)).cloned();
        let value = value.or_else(|| {
            let kept = host.connection_state.get(&connection?);
            kept?.get(&dotted).cloned()
        });
        value.ok_or(NOT_FOUND)
    })
}

fn set_property(mut caller: Caller, path: u32, length: u32, data: u32, size: u32) -> Status {
    answer(&mut caller, "proxy_set_property", |caller| {
        let path = attributes::decode(&read(caller, path, length)?);
        let value = read(caller, data, size)?;
        let host = caller.data_mut();
        match host.connection().filter(|_| host.declared.contains(&path)) {
            Some(connection) => {
                let kept = host.connection_state.entry(connection).or_default();
                kept.insert(path, value)
            }
            None => host.stream().filter_state.insert(path, value),
        };
        Ok(())
    })
}

/// Envoy's own additions to the ABI, of which `declare_property` is understood here.
fn call_foreign_function(
    mut caller: Caller,
    function: u32,
    length: u32,
    arguments: u32,
    arguments_size: u32,
    _data: u32,
    _size: u32,
) -> Status {
    answer(&mut caller, "proxy_call_foreign_function", |caller| {
        let function = read(caller, function, length)?;
        let arguments = read(caller, arguments, arguments_size)?;
        // The name (field 1), and the life span of the downstream connection (field 5).
        let name = match arguments.as_slice() {
            [0x0a, length, name @ .., 0x28, 2] if usize::from(*length) == name.len() => name,
            _ => return Err(BAD_ARGUMENT),
        };
        let host = caller.data_mut();
        match (function.as_slice(), host.active) {
            (b"declare_property", ROOT) => {}
            (b"declare_property", _) => return Err(BAD_ARGUMENT),
            _ => return Err(NOT_FOUND),
        }
        match host.declared.insert(attributes::decode(name)) {
            true => Ok(()),
            false => Err(BAD_ARGUMENT),
        }
    })
}

fn get_header(mut caller: Caller, map: u32, key: u32, length: u32, data: u32, size: u32) -> Status {
    let out = (data, size);
    answer_bytes(&mut caller, "proxy_get_header_map_value", out, |caller| {
        let key = name(caller, key, length)?;
        let headers = headers(caller, map)?;
        let found = headers.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.clone()).ok_or(NOT_FOUND)
    })
}

fn get_headers(mut caller: Caller, map: u32, data: u32, size: u32) -> Status {
    let out = (data, size);
    answer_bytes(&mut caller, "proxy_get_header_map_pairs", out, |caller| {
        headers(caller, map).map(|headers| marshal(headers))
    })
}

fn add_header(
    mut caller: Caller,
    map: u32,
    key: u32,
    length: u32,
    value: u32,
    size: u32,
) -> Status {
    answer(&mut caller, "proxy_add_header_map_value", |caller| {
        let key = name(caller, key, length)?;
        let value = read(caller, value, size)?;
        headers(caller, map)?.push((key, value));
        Ok(())
    })
}

fn replace_header(
    mut caller: Caller,
    map: u32,
    key: u32,
    length: u32,
    value: u32,
    size: u32,
) -> Status {
    answer(&mut caller, "proxy_replace_header_map_value", |caller| {
        let key = name(caller, key, length)?;
        let value = read(caller, value, size)?;
        let headers = headers(caller, map)?;
        headers.retain(|(name, _)| *name != key);
        headers.push((key, value));
        Ok(())
    })
}

fn remove_header(mut caller: Caller, map: u32, key: u32, length: u32) -> Status {
    answer(&mut caller, "proxy_remove_header_map_value", |caller| {
        let key = name(caller, key, length)?;
        headers(caller, map)?.retain(|(name, _)| *name != key);
        Ok(())
    })
}

fn define_metric(mut caller: Caller, kind: u32, text: u32, size: u32, id: u32) -> Status {
    answer(&mut caller, "proxy_define_metric", |caller| {
        let name = name(caller, text, size)?;
        let minted = mint(caller.data_mut(), kind, name)?;
        write(caller, id, &minted.to_le_bytes())
    })
}

fn increment_metric(mut caller: Caller, id: u32, offset: i64) -> Status {
    answer(&mut caller, "proxy_increment_metric", |caller| {
        with_metric(caller.data(), id, |metric| increment(metric, offset))
    })
}

fn record_metric(mut caller: Caller, id: u32, value: u64) -> Status {
    answer(&mut caller, "proxy_record_metric", |caller| {
        with_metric(caller.data(), id, |metric| {
            record(metric, value);
            Ok(())
        })
    })
}

fn get_metric(mut caller: Caller, id: u32, result: u32) -> Status {
    answer(&mut caller, "proxy_get_metric", |caller| {
        let value = with_metric(caller.data(), id, |metric| current(metric))?;
        write(caller, result, &value.to_le_bytes())
    })
}

fn get_shared_data(
    mut caller: Caller,
    key: u32,
    length: u32,
    data: u32,
    size: u32,
    cas: u32,
) -> Status {
    let out = (data, size);
    answer_bytes(&mut caller, "proxy_get_shared_data", out, |caller| {
        let key = read(caller, key, length)?;
        let found = caller.data().proxy.0.borrow().data.get(&key).cloned();
        let (value, version) = found.ok_or(NOT_FOUND)?;
        write(caller, cas, &version.to_le_bytes())?;
        Ok(value)
    })
}

fn set_shared_data(
    mut caller: Caller,
    key: u32,
    length: u32,
    value: u32,
    size: u32,
    cas: u32,
) -> Status {
    answer(&mut caller, "proxy_set_shared_data", |caller| {
        let key = read(caller, key, length)?;
        let value = read(caller, value, size)?;
        compare_and_swap(caller.data(), key, value, cas)
    })
}

#[expect(clippy::too_many_arguments, reason = "the ABI has as many")]
fn send_local_response(
    mut caller: Caller,
    status: u32,
    _details: u32,
    _details_size: u32,
    _body: u32,
    _body_size: u32,
    _headers: u32,
    _headers_size: u32,
    _grpc_status: i32,
) -> Status {
    answer(&mut caller, "proxy_send_local_response", |caller| {
        caller.data_mut().stream().local_responses.push(status);
        Ok(())
    })
}

fn close_stream(mut caller: Caller, stream: u32) -> Status {
    answer(&mut caller, "proxy_close_stream", |caller| {
        caller.data_mut().stream().closed.push(stream);
        Ok(())
    })
}

#[expect(clippy::too_many_arguments, reason = "the ABI has as many")]
fn http_call(
    mut caller: Caller,
    upstream: u32,
    upstream_size: u32,
    headers: u32,
    headers_size: u32,
    _body: u32,
    _body_size: u32,
    _trailers: u32,
    _trailers_size: u32,
    _timeout: u32,
    token: u32,
) -> Status {
    answer(&mut caller, "proxy_http_call", |caller| {
        let cluster = name(caller, upstream, upstream_size)?;
        let headers = read(caller, headers, headers_size)?;
        let calls = &mut caller.data_mut().http_calls;
        let number = u32::try_from(calls.len() + 1).unwrap_or(u32::MAX);
        calls.push(HttpCall {
            token: number,
            cluster,
            path: unmarshal(&headers, ":path"),
        });
        write(caller, token, &number.to_le_bytes())
    })
}

fn set_effective_context(mut caller: Caller, context: u32) -> Status {
    answer(&mut caller, "proxy_set_effective_context", |caller| {
        caller.data_mut().active = context;
        Ok(())
    })
}

/// Runs a host function, unless it is to misbehave.
fn answer(
    caller: &mut Caller,
    function: &'static str,
    body: impl FnOnce(&mut Caller) -> Answer,
) -> Status {
    match caller.data_mut().enter(function) {
        Some(Fault::Status(status)) => status,
        Some(Fault::Lie(_)) => OK,
        None => body(caller).err().unwrap_or(OK),
    }
}

/// The same for one that hands memory over to the module.
fn answer_bytes(
    caller: &mut Caller,
    function: &'static str,
    (data, size): (u32, u32),
    body: impl FnOnce(&mut Caller) -> Answer<Vec<u8>>,
) -> Status {
    let bytes = match caller.data_mut().enter(function) {
        Some(Fault::Status(status)) => Err(status),
        Some(Fault::Lie(bytes)) => Ok(bytes),
        None => body(caller),
    };
    bytes
        .and_then(|bytes| give(caller, &bytes, data, size))
        .err()
        .unwrap_or(OK)
}

fn read(caller: &Caller, start: u32, size: u32) -> Answer<Vec<u8>> {
    let memory = caller.data().memory.ok_or(INVALID_MEMORY_ACCESS)?;
    let (start, size) = (start as usize, size as usize);
    let bytes = memory.data(caller).get(start..start + size);
    bytes.map(<[u8]>::to_vec).ok_or(INVALID_MEMORY_ACCESS)
}

fn write(caller: &mut Caller, start: u32, bytes: &[u8]) -> Answer {
    let memory = caller.data().memory.ok_or(INVALID_MEMORY_ACCESS)?;
    memory
        .write(caller, start as usize, bytes)
        .map_err(|_| INVALID_MEMORY_ACCESS)
}

/// Text that Envoy takes as a name. In all of them a mistake of encoding is the module's.
fn name(caller: &Caller, start: u32, size: u32) -> Answer<String> {
    Ok(String::from_utf8(read(caller, start, size)?).expect("a name in UTF-8"))
}

/// Hands bytes over in memory that the module allocates; no bytes are a null pointer.
fn give(caller: &mut Caller, bytes: &[u8], data: u32, size: u32) -> Answer {
    let length = u32::try_from(bytes.len()).map_err(|_| INVALID_MEMORY_ACCESS)?;
    let pointer = match length {
        0 => 0,
        _ => allocate(caller, length)?,
    };
    if pointer != 0 {
        write(caller, pointer, bytes)?;
    }
    write(caller, data, &pointer.to_le_bytes())?;
    write(caller, size, &length.to_le_bytes())
}

fn allocate(caller: &mut Caller, length: u32) -> Answer<u32> {
    caller.data_mut().answers += 1;
    let allocate = caller.data().allocate.clone();
    let pointer = allocate.and_then(|allocate| allocate.call(&mut *caller, length).ok());
    pointer
        .filter(|pointer| *pointer != 0)
        .ok_or(INVALID_MEMORY_ACCESS)
}

/// The headers of the active stream, as far as Envoy has them; or those of a reply.
fn headers<'a>(caller: &'a mut Caller, map: u32) -> Answer<&'a mut Headers> {
    if map == HTTP_CALL_RESPONSE_HEADERS {
        let reply = caller.data_mut().reply.as_mut().ok_or(BAD_ARGUMENT)?;
        return Ok(&mut reply.headers);
    }
    let stream = caller.data_mut().stream();
    match map {
        REQUEST_HEADERS => stream.request_headers.as_mut(),
        RESPONSE_HEADERS => stream.response_headers.as_mut(),
        _ => None,
    }
    .ok_or(BAD_ARGUMENT)
}

/// All headers in the ABI's encoding: count, sizes, then names and values, each with a zero byte.
fn marshal(headers: &Headers) -> Vec<u8> {
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = size(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(size(name.len()));
        bytes.extend(size(value.len()));
    }
    for (name, value) in headers {
        bytes.extend(name.bytes().chain([0]));
        bytes.extend(value.iter().copied().chain([0]));
    }
    bytes
}

/// A header of what a module has marshalled.
fn unmarshal(bytes: &[u8], name: &str) -> String {
    let word = |index: usize| {
        let word = bytes[4 * index..][..4].try_into().expect("four bytes");
        u32::from_le_bytes(word) as usize
    };
    let count = word(0);
    let mut at = 4 + 8 * count;
    let mut next = |size: usize| {
        let text = String::from_utf8_lossy(&bytes[at..at + size]).into_owned();
        at += size + 1;
        text
    };
    let mut headers = (0..count).map(|index| {
        let sizes = (word(1 + 2 * index), word(2 + 2 * index));
        (next(sizes.0), next(sizes.1))
    });
    let found = headers.find(|(key, _)| key == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// Mints a new id at every call, for a known name too.
fn mint(host: &mut Host, kind: u32, name: String) -> Answer<u32> {
    let fresh = match kind {
        COUNTER => Metric::Counter(0),
        GAUGE => Metric::Gauge(None),
        HISTOGRAM => Metric::Histogram(Vec::new()),
        _ => return Err(BAD_ARGUMENT),
    };
    host.last_metric += 1;
    let id = host.last_metric << TYPE_MASK.count_ones() | kind;
    host.definitions.push(name.clone());
    let mut shared = host.proxy.0.borrow_mut();
    let metric = shared.metrics.entry(name.clone()).or_insert(fresh.clone());
    assert_eq!(
        std::mem::discriminant(metric),
        std::mem::discriminant(&fresh),
        "{name} has two types"
    );
    host.metric_ids.insert(id, name);
    Ok(id)
}

fn with_metric<T>(host: &Host, id: u32, body: impl FnOnce(&mut Metric) -> Answer<T>) -> Answer<T> {
    let name = host.metric_ids.get(&id).ok_or(match id & TYPE_MASK {
        COUNTER | GAUGE => NOT_FOUND,
        _ => BAD_ARGUMENT,
    })?;
    let mut shared = host.proxy.0.borrow_mut();
    body(shared.metrics.get_mut(name).ok_or(NOT_FOUND)?)
}

/// A counter only goes up, and a histogram not at all.
fn increment(metric: &mut Metric, offset: i64) -> Answer {
    match metric {
        Metric::Counter(value) if offset > 0 => *value += offset.unsigned_abs(),
        Metric::Gauge(value) => *value = value.unwrap_or(0).checked_add_signed(offset),
        _ => return Err(BAD_ARGUMENT),
    }
    Ok(())
}

fn record(metric: &mut Metric, value: u64) {
    match metric {
        Metric::Counter(counter) => *counter += value,
        Metric::Gauge(gauge) => *gauge = Some(value),
        Metric::Histogram(values) => values.push(value),
    }
}

fn current(metric: &Metric) -> Answer<u64> {
    match metric {
        Metric::Counter(value) => Ok(*value),
        Metric::Gauge(value) => Ok(value.unwrap_or(0)),
        Metric::Histogram(_) => Err(BAD_ARGUMENT),
    }
}

/// Compare and swap. A version of 0 is no condition, and neither is any on a new key.
fn compare_and_swap(host: &Host, key: Vec<u8>, value: Vec<u8>, cas: u32) -> Answer {
    let mut shared = host.proxy.0.borrow_mut();
    let present = shared.data.get(&key).map(|(_, version)| *version);
    if cas != 0 && present.is_some_and(|version| version != cas) {
        return Err(CAS_MISMATCH);
    }
    shared.last_cas += 1;
    let version = shared.last_cas;
    shared.data.insert(key, (value, version));
    Ok(())
}
