//! From Envoy's events to the watches over requests and connections.
//!
//! What a context is, its first event tells: that of a request is its headers, that of a connection
//! anything else. The SDK has to be told when the context is created, which takes a host call and an
//! object for each request. So the events come from [`guard`](crate::guard), and not through the SDK.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread::LocalKey;

use proxy_wasm::types::Action;

use crate::context::{RootId, StreamId};
use crate::host::{self, Proxy};
use crate::root;
use mtls_watch_core::bounded::Bounded;
use mtls_watch_core::inspector::{ConnectionWatch, Decision, Event, Inspector, RequestWatch};

/// Connections that are looked at again at a tick.
const MAX_WAITING: usize = 4096;

/// What contexts are to this module, by number.
type Contexts<T> = RefCell<Bounded<StreamId, T>>;

/// Requests that may be under way at the same time in one worker. Beyond that Envoy does not say when they end.
const MAX_REQUESTS: usize = 32_768;

/// The same of connections, some 500 bytes each.
const MAX_CONNECTIONS: usize = 65_536;

/// A context that is not a request, or of which nothing is known yet.
enum Connection {
    /// Nothing has happened. The root context tells by which configuration it will be watched.
    New { root: RootId },
    /// It is a connection.
    Watched(ConnectionWatch),
}

thread_local! {
    /// The context created last, and its root context. The headers of a request follow at once: it is
    /// not worth a place among the others.
    static NEWEST: Cell<Option<(StreamId, RootId)>> = const { Cell::new(None) };
    /// The requests that are not over for the module with their headers.
    static REQUESTS: Contexts<RequestWatch> = const { RefCell::new(Bounded::new(MAX_REQUESTS)) };
    static CONNECTIONS: Contexts<Connection> = const { RefCell::new(Bounded::new(MAX_CONNECTIONS)) };
    /// Connections to look at again at the next tick.
    static WAITING: RefCell<Vec<StreamId>> = const { RefCell::new(Vec::new()) };
    /// Whether it was said that some were given up.
    static SAID: Cell<bool> = const { Cell::new(false) };
}

/// A context has been created.
pub(crate) fn on_create(context: StreamId, root: RootId) {
    if let Some((before, root)) = NEWEST.replace(Some((context, root))) {
        insert(&CONNECTIONS, before, Connection::New { root });
    }
}

/// A request's headers are there.
pub(crate) fn on_request_headers(context: StreamId) -> Action {
    let Some(root) = take_newest(context).or_else(|| take_new(context)) else {
        return Action::Continue;
    };
    root::with_inspector(root, |inspector| {
        let (watch, decision) = RequestWatch::begin(inspector, &Proxy);
        if !watch.is_over() {
            insert(&REQUESTS, context, watch);
        }
        act_on_request(decision)
    })
}

/// A response's headers are there.
pub(crate) fn on_response_headers(context: StreamId) -> Action {
    with(&REQUESTS, |requests| {
        let decision = requests.get_mut(&context)?.on_response(&Proxy);
        Some(act_on_request(decision))
    })
    .unwrap_or(Action::Continue)
}

/// The client sent data, or will send no more.
pub(crate) fn on_downstream_data(context: StreamId, size: usize, end_of_stream: bool) -> Action {
    let mut action = Action::Continue;
    if size > 0 {
        action = on_connection(context, Event::DownstreamData);
    }
    if end_of_stream && action == Action::Continue {
        action = on_connection(context, Event::DownstreamEnd);
    }
    action
}

/// Something has happened on a connection.
pub(crate) fn on_connection(context: StreamId, event: Event) -> Action {
    if let Some(root) = take_newest(context) {
        insert(&CONNECTIONS, context, Connection::New { root });
    }
    let decision = with(&CONNECTIONS, |connections| {
        let connection = connections.get_mut(&context)?;
        if let Connection::New { root } = *connection {
            let watch = |inspector: &Rc<Inspector>| ConnectionWatch::new(Rc::clone(inspector));
            *connection = Connection::Watched(root::with_inspector(root, watch));
        }
        let Connection::Watched(watch) = connection else {
            return None;
        };
        let decision = watch.on(&Proxy, event);
        if event == Event::UpstreamData && watch.waits_for_client() {
            wait(context);
        }
        Some(decision)
    });
    match decision {
        // Too late to refuse anyone who is leaving.
        Some(Decision::Deny) if !matches!(event, Event::Close { .. }) => {
            host::close_connection();
            Action::Pause
        }
        _ => Action::Continue,
    }
}

/// Connections in which something may have happened without an event, at a tick of that root context.
pub(crate) fn on_tick(root: RootId) {
    let waiting = WAITING.with(|waiting| {
        waiting
            .try_borrow_mut()
            .map(|mut it| std::mem::take(&mut *it))
    });
    let waiting = waiting.unwrap_or_default();
    if waiting.is_empty() {
        return;
    }
    for context in waiting {
        if host::set_effective_context(context.0) {
            on_connection(context, Event::UpstreamData);
        }
    }
    host::set_effective_context(root.0);
}

fn wait(context: StreamId) {
    WAITING.with(|waiting| {
        if let Ok(mut waiting) = waiting.try_borrow_mut()
            && waiting.last() != Some(&context)
            && waiting.len() < MAX_WAITING
        {
            waiting.push(context);
        }
    });
}

/// A context is over, and access logs are about to be written.
pub(crate) fn on_log(context: StreamId) {
    if take_newest(context).is_some() {
        return;
    }
    if let Some(request) = remove(&REQUESTS, context) {
        request.on_log(&Proxy);
    } else {
        remove(&CONNECTIONS, context);
    }
}

fn act_on_request(decision: Decision) -> Action {
    match decision {
        Decision::Continue => Action::Continue,
        Decision::Deny => {
            host::deny_request();
            Action::Pause
        }
    }
}

/// The root context of the newest context, if that is this one. Then it is not the newest any more.
fn take_newest(context: StreamId) -> Option<RootId> {
    let (_, root) = NEWEST.get().filter(|(newest, _)| *newest == context)?;
    NEWEST.set(None);
    Some(root)
}

/// The root context of a context that was created earlier, if nothing has happened on it: then it is no
/// connection.
fn take_new(context: StreamId) -> Option<RootId> {
    with(&CONNECTIONS, |connections| {
        let Connection::New { root } = *connections.get_mut(&context)? else {
            return None;
        };
        connections.remove(&context);
        Some(root)
    })
}

fn insert<T>(contexts: &'static LocalKey<Contexts<T>>, context: StreamId, value: T) {
    let dropped = with(contexts, |contexts| Some(contexts.insert(context, value)));
    if dropped == Some(true) && !SAID.replace(true) {
        log::error!(
            "mtls-watch: more than {MAX_REQUESTS} requests or {MAX_CONNECTIONS} connections of a worker \
             never ended: the oldest are no longer watched"
        );
    }
}

/// Takes a context out.
fn remove<T>(contexts: &'static LocalKey<Contexts<T>>, context: StreamId) -> Option<T> {
    with(contexts, |contexts| contexts.remove(&context))
}

/// Nothing else borrows them at that time: a refusal never comes, and costs no panic.
fn with<T, R>(
    contexts: &'static LocalKey<Contexts<T>>,
    task: impl FnOnce(&mut Bounded<StreamId, T>) -> Option<R>,
) -> Option<R> {
    contexts.with(|contexts| task(&mut *contexts.try_borrow_mut().ok()?))
}
