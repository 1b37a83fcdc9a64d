//! One plugin configuration in one VM.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, RootContext};

use crate::REGISTRY;
use crate::context::RootId;
use crate::host::{self, Proxy};
use mtls_watch_core::config::Config;
use mtls_watch_core::host::TICK_MILLISECONDS;
use mtls_watch_core::inspector::Inspector;
use mtls_watch_core::own::Reply;
use mtls_watch_core::own::admin::ReplyError;

/// Half an hour in ticks. A configuration with neither tick nor stream for so long, times the number of
/// configurations, for each of the others ticks, too, is given up: Envoy has dropped it.
const SILENCE: u32 = 360;

/// A plugin configuration by its root context.
struct Plugin {
    root: RootId,
    inspector: Rc<Inspector>,
    /// Ticks of others since its own, or since its last stream.
    silence: Cell<u32>,
}

thread_local! {
    static PLUGINS: RefCell<Vec<Plugin>> = const { RefCell::new(Vec::new()) };
}

/// Does something with the inspector of a root context. Envoy makes no stream before it has configured
/// the plugin; for a host that does it is one with the defaults.
pub(crate) fn with_inspector<T>(root: RootId, task: impl FnOnce(&Rc<Inspector>) -> T) -> T {
    PLUGINS.with_borrow(|plugins| match find(plugins, root) {
        Some(plugin) => {
            plugin.silence.set(0);
            task(&plugin.inspector)
        }
        None => task(&new_inspector(Config::default())),
    })
}

fn find(plugins: &[Plugin], root: RootId) -> Option<&Plugin> {
    plugins.iter().find(|plugin| plugin.root == root)
}

fn inspector(root: RootId) -> Option<Rc<Inspector>> {
    PLUGINS.with_borrow(|plugins| Some(Rc::clone(&find(plugins, root)?.inspector)))
}

fn new_inspector(config: Config) -> Rc<Inspector> {
    Rc::new(Inspector::new(config, REGISTRY.with(Rc::clone)))
}

fn configure(root: RootId, inspector: Rc<Inspector>) {
    PLUGINS.with_borrow_mut(|plugins| {
        plugins.retain(|plugin| plugin.root != root);
        plugins.push(Plugin {
            root,
            inspector,
            silence: Cell::default(),
        });
    });
}

/// The end of a root context is not among the callbacks that the module exports, for it would be called
/// at the end of every request too. So it is told by its silence.
fn drop_silent(ticking: RootId) {
    PLUGINS.with_borrow_mut(|plugins| {
        for plugin in plugins.iter() {
            plugin.silence.set(match plugin.root == ticking {
                true => 0,
                false => plugin.silence.get().saturating_add(1),
            });
        }
        let count = u32::try_from(plugins.len()).unwrap_or(u32::MAX);
        let limit = SILENCE.saturating_mul(count);
        plugins.retain(|plugin| plugin.silence.get() < limit);
    });
}

/// A reply has come to a call that was made on behalf of a root context.
pub(crate) fn on_reply(root: RootId, token: u32, headers: usize, body: usize) {
    let Some(inspector) = inspector(root) else {
        return;
    };
    // A call that failed or timed out comes back without headers.
    let status = (headers > 0).then(host::reply_status).flatten();
    let content = match status {
        None => Err(ReplyError::None),
        Some(status) if status != b"200" => Err(ReplyError::Status(
            String::from_utf8_lossy(&status).into_owned(),
        )),
        Some(_) => Ok(()),
    };
    let mut ranges = host::ReplyBody::new();
    let reply = content.map(|()| Reply {
        size: body,
        body: &mut ranges,
    });
    inspector.on_reply(&Proxy, token, reply);
}

/// The SDK's root context.
pub(crate) struct Root {
    /// Its number.
    pub(crate) id: RootId,
    /// What else is to be done at a tick.
    pub(crate) at_tick: fn(RootId),
}

impl Context for Root {}

impl RootContext for Root {
    /// Never refuses: a filter without configuration is a hole in Envoy's filter chain, in which every
    /// request and connection fails.
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        log::set_max_level(host::log_level());
        let (config, errors) = Config::read(&host::plugin_configuration());
        for error in &errors {
            log::error!("{}", error.log_line());
        }
        let inspector = new_inspector(config);
        inspector.start(&Proxy, errors.len());
        configure(self.id, inspector);
        host::set_tick_period(TICK_MILLISECONDS);
        true
    }

    fn on_tick(&mut self) {
        log::set_max_level(host::log_level());
        drop_silent(self.id);
        if let Some(inspector) = inspector(self.id) {
            inspector.tick(&Proxy);
        }
        (self.at_tick)(self.id);
    }
}
