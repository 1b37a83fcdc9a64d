//! A stand-in for Envoy: runs the module as a worker thread's VM and answers its host calls.
//!
//! It is written after proxy-wasm-cpp-host and Envoy's own `Context`, whose oddities it keeps: a
//! metric that is defined twice has two ids, an empty value comes back as a null pointer, and a
//! callback that is not exported is silently not called.

mod imports;
pub mod offered;
mod wasi;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use wasmparser::WasmFeatures;
use wasmtime::{
    Config, Engine, Instance, Linker, Memory, Module, Result, Store, TypedFunc, WasmParams,
    WasmResults,
};

use crate::attributes::Attributes;

/// A status of the Proxy-Wasm ABI, as it goes over the wire.
pub type Status = u32;

pub const OK: Status = 0;
pub const NOT_FOUND: Status = 1;
pub const BAD_ARGUMENT: Status = 2;
pub const INVALID_MEMORY_ACCESS: Status = 6;
pub const CAS_MISMATCH: Status = 8;

/// What a stream callback returns when the stream may go on.
pub const CONTINUE: u32 = 0;

/// A log level of the ABI.
pub const ERROR: u32 = 4;

/// When the tests begin: 2026-06-01T00:00:00Z, in Unix seconds.
pub const START: u64 = 1_780_272_000;

const ROOT: u32 = 1;
const PEER_REMOTE: u32 = 2;

/// The module under test, compiled once for all tests.
static MODULE: LazyLock<Module> = LazyLock::new(|| compile(&path()));

/// The same as the linker left it, before tools/postlink finished it. Cargo keeps it.
static LINKED: LazyLock<Module> =
    LazyLock::new(|| compile(&path().with_file_name("deps").join("mtls_watch.wasm")));

fn compile(path: &Path) -> Module {
    compile_without(WasmFeatures::empty(), path)
}

/// On a host without these proposals of WebAssembly.
fn compile_without(features: WasmFeatures, path: &Path) -> Module {
    let mut config = Config::new();
    config.wasm_backtrace(true).consume_fuel(true);
    config.wasm_features(features, false);
    let engine = Engine::new(&config).expect("a wasmtime engine");
    Module::from_file(&engine, path).expect("a valid module")
}

pub fn module() -> &'static Module {
    &MODULE
}

pub fn linked() -> &'static Module {
    &LINKED
}

/// Where the module is: `MTLS_WATCH_WASM`, or where the build leaves it.
pub fn path() -> PathBuf {
    let built = "target/wasm32-wasip1/release/mtls_watch.wasm";
    let path = std::env::var_os("MTLS_WATCH_WASM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(built),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "no module at {}: run `make build` first",
        path.display()
    );
    path
}

#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    Counter(u64),
    Gauge(Option<u64>),
    Histogram(Vec<u64>),
}

/// What all worker threads of one proxy have in common.
struct Shared {
    nanoseconds: u64,
    data: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    metrics: BTreeMap<String, Metric>,
    /// How many workers have started.
    workers: u8,
}

/// One Envoy process: a clock, a metrics store, shared data, and as many workers as a test wants.
#[derive(Clone)]
pub struct Proxy(Rc<RefCell<Shared>>);

impl Proxy {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Shared {
            nanoseconds: START * 1_000_000_000,
            data: HashMap::new(),
            last_cas: 0,
            metrics: BTreeMap::new(),
            workers: 0,
        })))
    }

    /// A worker that has loaded the module, with a configuration that must be accepted.
    pub fn worker(&self, configuration: &str) -> Result<Worker> {
        let mut worker = self.unconfigured()?;
        let accepted = worker.configure(configuration)?;
        assert!(accepted, "refused {configuration}: {:?}", worker.logs());
        Ok(worker)
    }

    /// A worker whose VM has started, but has no plugin configuration yet.
    pub fn unconfigured(&self) -> Result<Worker> {
        self.unconfigured_with(BTreeMap::new())
    }

    /// The same, with host calls that fail from the very first on.
    pub fn unconfigured_with(&self, faults: Faults) -> Result<Worker> {
        Worker::start(module(), self.clone(), faults)
    }

    /// A worker that has loaded another module.
    pub fn worker_of(&self, module: &Path) -> Result<Worker> {
        let mut worker = Worker::start(&compile(module), self.clone(), BTreeMap::new())?;
        assert!(
            worker.configure("")?,
            "{} refuses to start",
            module.display()
        );
        Ok(worker)
    }

    /// A worker of a host that has these proposals of WebAssembly and no others.
    pub fn worker_with(&self, features: WasmFeatures) -> Result<Worker> {
        let module = compile_without(features.complement(), &path());
        let mut worker = Worker::start(&module, self.clone(), BTreeMap::new())?;
        assert!(worker.configure("")?, "refuses to start");
        Ok(worker)
    }

    /// A worker that has loaded the module as the linker left it.
    pub fn unfinished_worker(&self) -> Result<Worker> {
        Worker::start(linked(), self.clone(), BTreeMap::new())
    }

    pub fn advance(&self, by: Duration) {
        self.0.borrow_mut().nanoseconds += u64::try_from(by.as_nanos()).expect("a short time");
    }

    pub fn set_clock_back(&self, by: Duration) {
        self.0.borrow_mut().nanoseconds -= u64::try_from(by.as_nanos()).expect("a short time");
    }

    /// The present, in Unix seconds.
    pub fn now(&self) -> u64 {
        self.0.borrow().nanoseconds / 1_000_000_000
    }

    /// Everything defined so far that has a value: a counter of any value, a gauge once set, a
    /// histogram once recorded to.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        let mut metrics = self.0.borrow().metrics.clone();
        metrics.retain(|_, metric| match metric {
            Metric::Counter(_) => true,
            Metric::Gauge(value) => value.is_some(),
            Metric::Histogram(values) => !values.is_empty(),
        });
        metrics
    }

    /// The counter of that name; 0 when it is not there.
    pub fn counter(&self, name: &str) -> u64 {
        match self.0.borrow().metrics.get(name) {
            Some(Metric::Counter(value)) => *value,
            None => 0,
            Some(other) => panic!("{name} is {other:?}"),
        }
    }

    pub fn gauge(&self, name: &str) -> Option<u64> {
        match self.0.borrow().metrics.get(name) {
            Some(Metric::Gauge(value)) => *value,
            None => None,
            Some(other) => panic!("{name} is {other:?}"),
        }
    }

    /// Replaces every value in shared data by these bytes.
    pub fn overwrite_shared_data(&self, bytes: &[u8]) {
        let mut shared = self.0.borrow_mut();
        for (value, _) in shared.data.values_mut() {
            *value = bytes.to_vec();
        }
    }

    /// The sum of all counters whose name ends in `suffix`.
    pub fn total(&self, suffix: &str) -> u64 {
        let metrics = self.metrics();
        let values = metrics.iter().filter_map(|(name, metric)| match metric {
            Metric::Counter(value) if name.ends_with(suffix) => Some(value),
            _ => None,
        });
        values.sum()
    }
}

/// How a host function misbehaves.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It does nothing and answers with this status.
    Status(Status),
    /// It answers OK. A function that hands memory over gives these bytes (none: a null pointer);
    /// any other does nothing, and leaves what it should have written as it was.
    Lie(Vec<u8>),
}

pub type Faults = BTreeMap<&'static str, Fault>;

pub type Headers = Vec<(String, Vec<u8>)>;

/// One connection or HTTP stream.
#[derive(Default)]
pub struct Stream {
    pub attributes: Attributes,
    /// Absent while Envoy has no such headers to give.
    pub request_headers: Option<Headers>,
    pub response_headers: Option<Headers>,
    pub filter_state: BTreeMap<String, Vec<u8>>,
    /// HTTP status codes of the responses that the module sent itself.
    pub local_responses: Vec<u32>,
    /// Stream types that the module closed.
    pub closed: Vec<u32>,
}

/// One VM as seen from its host functions.
pub struct Host {
    proxy: Proxy,
    memory: Option<Memory>,
    allocate: Option<TypedFunc<u32, u32>>,
    /// False while `_initialize` runs, when Envoy allows logging and WASI only.
    initialized: bool,
    active: u32,
    streams: HashMap<u32, Stream>,
    /// Filter state that stays as long as the connection, and by whose number what is there.
    declared: BTreeSet<String>,
    connection_state: HashMap<u64, BTreeMap<String, Vec<u8>>>,
    configuration: Vec<u8>,
    metric_ids: HashMap<u32, String>,
    last_metric: u32,
    /// The name of each metric defined, once per definition.
    pub definitions: Vec<String>,
    pub logs: Vec<(u32, String)>,
    /// How often each host function was called.
    pub calls: BTreeMap<&'static str, u64>,
    /// How often each property was read, by its dotted path.
    pub reads: BTreeMap<String, u64>,
    pub faults: Faults,
    pub tick_period: Option<Duration>,
    pub http_calls: Vec<HttpCall>,
    /// How often an exported callback was called.
    entries: u64,
    /// How often the module was asked for memory, to put an answer into.
    answers: u64,
    /// The reply that is being handed over.
    reply: Option<Reply>,
    /// Differs from worker to worker, as random numbers do.
    seed: u8,
}

/// A call of the module to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCall {
    pub token: u32,
    pub cluster: String,
    pub path: String,
}

/// What comes back. Without headers: nothing did.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Host {
    fn stream(&mut self) -> &mut Stream {
        self.streams.entry(self.active).or_default()
    }

    /// The number of the connection that the active context is on.
    fn connection(&mut self) -> Option<u64> {
        let id = self.stream().attributes.get(b"connection\0id")?;
        id.as_slice().try_into().ok().map(u64::from_le_bytes)
    }

    /// Filter state as a context sees it: its own, and its connection's.
    fn filter_state_of(&mut self, context: u32) -> BTreeMap<String, Vec<u8>> {
        self.active = context;
        let connection = self.connection();
        let kept = connection.and_then(|number| self.connection_state.get(&number));
        let mut state = kept.cloned().unwrap_or_default();
        state.extend(self.stream().filter_state.clone());
        state
    }

    /// Counts a call, and tells how it is to misbehave.
    fn enter(&mut self, function: &'static str) -> Option<Fault> {
        assert!(
            self.initialized || function == "proxy_log",
            "{function} called from _initialize, where Envoy refuses it"
        );
        *self.calls.entry(function).or_default() += 1;
        self.faults.get(function).cloned()
    }
}

/// One worker thread's VM.
pub struct Worker {
    store: Store<Host>,
    instance: Instance,
    last_context: u32,
}

impl Worker {
    fn start(module: &Module, proxy: Proxy, faults: Faults) -> Result<Self> {
        let engine = module.engine();
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        offered::forbid(&mut linker, module)?;
        imports::define(&mut linker)?;
        wasi::define(&mut linker)?;
        let seed = {
            let mut shared = proxy.0.borrow_mut();
            shared.workers += 1;
            shared.workers
        };
        let host = Host {
            proxy,
            memory: None,
            allocate: None,
            initialized: false,
            active: 0,
            streams: HashMap::new(),
            declared: BTreeSet::new(),
            connection_state: HashMap::new(),
            configuration: Vec::new(),
            metric_ids: HashMap::new(),
            last_metric: 0,
            definitions: Vec::new(),
            logs: Vec::new(),
            calls: BTreeMap::new(),
            reads: BTreeMap::new(),
            faults,
            tick_period: None,
            http_calls: Vec::new(),
            entries: 0,
            answers: 0,
            reply: None,
            seed,
        };
        let mut store = Store::new(engine, host);
        store.set_fuel(u64::MAX)?;
        let instance = linker.instantiate(&mut store, module)?;
        let mut worker = Self {
            store,
            instance,
            last_context: ROOT,
        };
        worker.boot()?;
        Ok(worker)
    }

    fn boot(&mut self) -> Result<()> {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .into_iter()
            .find_map(|name| {
                let function = self.instance.get_func(&mut self.store, name)?;
                function.typed(&self.store).ok()
            });
        self.host().memory = memory;
        self.host().allocate = allocate;
        self.call::<(), ()>("_initialize", ())?;
        self.host().initialized = true;
        self.enter::<_, ()>(ROOT, "proxy_on_context_create", (ROOT, 0))?;
        self.enter::<_, u32>(ROOT, "proxy_on_vm_start", (ROOT, 0))?;
        Ok(())
    }

    /// Calls an export, if there is one.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
        parameters: P,
    ) -> Result<Option<R>> {
        let Some(function) = self.instance.get_func(&mut self.store, name) else {
            return Ok(None);
        };
        self.host().entries += 1;
        let function = function.typed::<P, R>(&self.store)?;
        function
            .call(&mut self.store, parameters)
            .map(Some)
            .map_err(|trap| trap.context(format!("{name} trapped; log: {:?}", self.logs())))
    }

    /// The same on behalf of a context.
    pub fn enter<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        name: &str,
        parameters: P,
    ) -> Result<Option<R>> {
        self.host().active = context;
        self.call(name, parameters)
    }

    pub fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    pub fn logs(&self) -> &[(u32, String)] {
        &self.store.data().logs
    }

    /// Size of the linear memory in bytes. It never shrinks.
    pub fn memory(&self) -> usize {
        let memory = self.store.data().memory;
        memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// How many instructions the module has executed so far. wasmtime takes a unit of fuel for each,
    /// but for `nop`, `drop`, `block` and `loop`, which are none to a machine either.
    pub fn instructions(&self) -> Result<u64> {
        Ok(u64::MAX - self.store.get_fuel()?)
    }

    pub fn entries(&self) -> u64 {
        self.store.data().entries
    }

    pub fn answers(&self) -> u64 {
        self.store.data().answers
    }

    /// All host calls since the last time, by function.
    pub fn take_calls(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.host().calls)
    }

    /// Hands the plugin configuration over; says whether the module accepts it.
    pub fn configure(&mut self, configuration: impl AsRef<[u8]>) -> Result<bool> {
        self.configure_root(ROOT, configuration.as_ref())
    }

    /// The same for a further plugin that shares the VM, which must be accepted: its root context.
    pub fn configure_another(&mut self, configuration: &str) -> Result<u32> {
        let root = self.next_context();
        self.enter::<_, ()>(root, "proxy_on_context_create", (root, 0))?;
        self.enter::<_, u32>(root, "proxy_on_vm_start", (root, 0))?;
        assert!(self.configure_root(root, configuration.as_bytes())?);
        Ok(root)
    }

    fn configure_root(&mut self, root: u32, configuration: &[u8]) -> Result<bool> {
        self.host().configuration = configuration.to_vec();
        let size = u32::try_from(configuration.len())?;
        let accepted = self.enter::<_, u32>(root, "proxy_on_configure", (root, size))?;
        Ok(accepted.is_none_or(|accepted| accepted != 0))
    }

    pub fn tick(&mut self) -> Result<()> {
        self.enter::<_, ()>(ROOT, "proxy_on_tick", ROOT)?;
        Ok(())
    }

    /// Hands over the reply to a call. Envoy does so on behalf of the root context.
    pub fn reply(&mut self, token: u32, reply: Reply) -> Result<()> {
        let headers = u32::try_from(reply.headers.len())?;
        let parameters = (
            ROOT,
            token,
            headers,
            u32::try_from(reply.body.len())?,
            0_u32,
        );
        self.host().reply = Some(reply);
        self.enter::<_, ()>(ROOT, "proxy_on_http_call_response", parameters)?;
        self.host().reply = None;
        Ok(())
    }

    /// Opens a context. Envoy has the attributes by then: those of an HTTP stream all, those of a
    /// connection but for its TLS properties, which nobody reads before data arrives.
    pub fn open(&mut self, attributes: &Attributes) -> Result<u32> {
        self.open_in(ROOT, attributes)
    }

    /// The same for the plugin of another root context.
    pub fn open_in(&mut self, root: u32, attributes: &Attributes) -> Result<u32> {
        let context = self.next_context();
        let stream = Stream {
            attributes: attributes.clone(),
            ..Stream::default()
        };
        self.host().streams.insert(context, stream);
        self.enter::<_, ()>(context, "proxy_on_context_create", (context, root))?;
        Ok(context)
    }

    fn next_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    pub fn stream(&mut self, context: u32) -> &mut Stream {
        self.host().streams.entry(context).or_default()
    }

    pub fn request_headers(&mut self, context: u32, headers: Headers) -> Result<u32> {
        let parameters = (context, u32::try_from(headers.len())?, 1_u32);
        self.stream(context).request_headers = Some(headers);
        let action = self.enter(context, "proxy_on_request_headers", parameters)?;
        Ok(action.unwrap_or(CONTINUE))
    }

    pub fn response_headers(&mut self, context: u32, headers: Headers) -> Result<u32> {
        let parameters = (context, u32::try_from(headers.len())?, 1_u32);
        self.stream(context).response_headers = Some(headers);
        let action = self.enter(context, "proxy_on_response_headers", parameters)?;
        Ok(action.unwrap_or(CONTINUE))
    }

    pub fn new_connection(&mut self, context: u32) -> Result<u32> {
        let action = self.enter(context, "proxy_on_new_connection", context)?;
        Ok(action.unwrap_or(CONTINUE))
    }

    pub fn downstream_data(&mut self, context: u32) -> Result<u32> {
        let parameters = (context, 100_u32, 0_u32);
        let action = self.enter(context, "proxy_on_downstream_data", parameters)?;
        Ok(action.unwrap_or(CONTINUE))
    }

    pub fn upstream_data(&mut self, context: u32) -> Result<u32> {
        let parameters = (context, 100_u32, 0_u32);
        let action = self.enter(context, "proxy_on_upstream_data", parameters)?;
        Ok(action.unwrap_or(CONTINUE))
    }

    /// The first event of a stream or connection at which its client's certificate is known.
    pub fn request_or_data(&mut self, context: u32) -> Result<u32> {
        if self.stream(context).attributes.is_http() {
            self.request_headers(context, Vec::new())
        } else {
            self.downstream_data(context)
        }
    }

    /// The end of a connection, by the other side.
    pub fn disconnect(&mut self, context: u32) -> Result<Stream> {
        let name = "proxy_on_downstream_connection_close";
        self.enter::<_, ()>(context, name, (context, PEER_REMOTE))?;
        self.finish(context)
    }

    /// The end of any context. Gives back what has become of its stream.
    pub fn finish(&mut self, context: u32) -> Result<Stream> {
        self.enter::<_, u32>(context, "proxy_on_done", context)?;
        self.enter::<_, ()>(context, "proxy_on_log", context)?;
        let logged = self.host().filter_state_of(context);
        self.enter::<_, ()>(context, "proxy_on_delete", context)?;
        let mut stream = self.host().streams.remove(&context).unwrap_or_default();
        stream.filter_state = logged;
        Ok(stream)
    }

    /// Envoy's own part of a context is gone, and nobody has told the module.
    pub fn forget(&mut self, context: u32) {
        self.host().streams.remove(&context);
    }

    /// A whole HTTP exchange with one request. The request must not be held up.
    pub fn exchange(&mut self, attributes: &Attributes) -> Result<Stream> {
        self.exchange_with(attributes, Vec::new())
    }

    pub fn exchange_with(&mut self, attributes: &Attributes, headers: Headers) -> Result<Stream> {
        let context = self.open(attributes)?;
        assert_eq!(self.request_headers(context, headers)?, CONTINUE);
        assert_eq!(self.response_headers(context, Vec::new())?, CONTINUE);
        self.finish(context)
    }

    /// A whole connection: two packets each way. It must not be held up.
    pub fn connection(&mut self, attributes: &Attributes) -> Result<Stream> {
        let context = self.open(attributes)?;
        assert_eq!(self.new_connection(context)?, CONTINUE);
        for _ in 0..2 {
            assert_eq!(self.downstream_data(context)?, CONTINUE);
            assert_eq!(self.upstream_data(context)?, CONTINUE);
        }
        self.disconnect(context)
    }

    /// A connection that ends before the first byte of data, as a refused handshake does.
    pub fn refused_handshake(&mut self, attributes: &Attributes) -> Result<Stream> {
        let context = self.open(attributes)?;
        assert_eq!(self.new_connection(context)?, CONTINUE);
        self.disconnect(context)
    }
}
