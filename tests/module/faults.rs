//! Host calls that fail, or lie: no status and no answer may stop the VM or hold a request up.

use std::time::Duration;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{CAS_MISMATCH, CONTINUE, Fault, Faults, Proxy, Reply, Worker};
use crate::pki::{Certificate, DAY, Leaf};

/// With every feature that takes a host call.
const CONFIGURATION: &str = r#"{"deny": ["expired"], "hierarchy": {"admin_cluster": "admin"},
    "flag": {"request_header": "x-peer", "response_header": "x-peer"}}"#;

/// A chance in a worker's life for a host call to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Boot,
    Configure,
    Open,
    Request,
    Response,
    Data,
    Tick,
    Reply,
    Close,
}

const PHASES: [Phase; 9] = [
    Phase::Boot,
    Phase::Configure,
    Phase::Open,
    Phase::Request,
    Phase::Response,
    Phase::Data,
    Phase::Tick,
    Phase::Reply,
    Phase::Close,
];

/// Every code of the ABI, those too that the SDK does not know, and some that nobody knows.
fn faults() -> Vec<Fault> {
    let statuses = (1..=12).chain([255, u32::MAX]).map(Fault::Status);
    let lies = [
        Vec::new(),
        vec![0],
        vec![0xff; 3],
        b"\xff\xfe not text".to_vec(),
        vec![b'7'; 1 << 20],
    ];
    statuses.chain(lies.map(Fault::Lie)).collect()
}

/// Everything that a worker does in a day, with a host function failing all day or in one phase.
struct Day {
    function: &'static str,
    fault: Option<Fault>,
    when: Option<Phase>,
}

impl Day {
    fn run(&self, proxy: &Proxy) -> Result<Worker> {
        let mut worker = proxy.unconfigured_with(self.faults(Phase::Boot))?;
        self.enter(&mut worker, Phase::Configure);
        if worker.configure(CONFIGURATION)? {
            self.streams(&mut worker)?;
        }
        worker.host().faults.clear();
        Ok(worker)
    }

    fn streams(&self, worker: &mut Worker) -> Result<()> {
        let peer = Leaf::new("spiffe://d/expiring")
            .valid(-80 * DAY, 2 * DAY)
            .sign();
        let expired = Leaf::new("spiffe://d/expired").valid(-DAY, -1).sign();
        let both = |attributes: Attributes| attributes.client(&peer).server(&peer).direction(0);
        let refused = Attributes::network().refused(Some(&expired), "TLS_error:|268435581:x");
        let xfcc = format!("Cert=\"{}\"", peer.url_encoded_pem());
        let headers = vec![("x-forwarded-client-cert".to_owned(), xfcc.into_bytes())];

        self.enter(worker, Phase::Open);
        let request = worker.open(&both(Attributes::http()))?;
        let forwarded =
            worker.open(&both(Attributes::http()).without("connection.peer_certificate"))?;
        let denied = worker.open(&Attributes::http().client(&expired))?;
        let connection = worker.open(&both(Attributes::network()))?;
        let closed = worker.open(&Attributes::network().client(&expired))?;
        let failure = worker.open(&refused)?;
        self.enter(worker, Phase::Request);
        assert_eq!(worker.request_headers(request, Vec::new())?, CONTINUE);
        assert_eq!(worker.request_headers(forwarded, headers)?, CONTINUE);
        worker.request_headers(denied, Vec::new())?;
        self.enter(worker, Phase::Response);
        assert_eq!(worker.response_headers(request, Vec::new())?, CONTINUE);
        assert_eq!(worker.response_headers(forwarded, Vec::new())?, CONTINUE);
        self.enter(worker, Phase::Data);
        assert_eq!(worker.downstream_data(connection)?, CONTINUE);
        assert_eq!(worker.upstream_data(connection)?, CONTINUE);
        worker.downstream_data(closed)?;
        self.enter(worker, Phase::Tick);
        worker.tick()?;
        self.enter(worker, Phase::Reply);
        reply_to_all(worker)?;
        self.enter(worker, Phase::Close);
        for connection in [failure, connection, closed] {
            worker.disconnect(connection)?;
        }
        for request in [request, forwarded, denied] {
            worker.finish(request)?;
        }
        Ok(())
    }

    fn enter(&self, worker: &mut Worker, phase: Phase) {
        worker.host().faults = self.faults(phase);
    }

    fn faults(&self, phase: Phase) -> Faults {
        let now = self.when.is_none_or(|when| when == phase);
        let fault = self.fault.clone().filter(|_| now);
        fault
            .map(|fault| (self.function, fault))
            .into_iter()
            .collect()
    }
}

/// Replies to every call of the module, and to those that it makes then. Some call may have failed
/// for the module only: the host has no token that it would not reply to.
fn reply_to_all(worker: &mut Worker) -> Result<()> {
    for body in [r#"{"configs": []}"#, r#"{"certificates": []}"#] {
        for call in std::mem::take(&mut worker.host().http_calls) {
            let reply = Reply {
                headers: vec![(":status".to_owned(), b"200".into())],
                body: body.into(),
            };
            worker.reply(call.token, reply)?;
        }
    }
    Ok(())
}

/// All host functions that a day without a fault calls.
fn functions() -> Result<Vec<&'static str>> {
    let day = Day {
        function: "",
        fault: None,
        when: None,
    };
    let mut worker = day.run(&Proxy::new())?;
    Ok(worker.take_calls().into_keys().collect())
}

fn days() -> Result<Vec<Day>> {
    let phases: Vec<_> = PHASES.into_iter().map(Some).chain([None]).collect();
    let mut days = Vec::new();
    for function in functions()? {
        for fault in faults().into_iter().map(Some) {
            days.extend(phases.iter().map(|&when| Day {
                function,
                fault: fault.clone(),
                when,
            }));
        }
    }
    Ok(days)
}

#[test]
fn a_day_calls_every_host_function_that_matters() -> Result<()> {
    let called = functions()?;
    for function in [
        "proxy_close_stream",
        "proxy_define_metric",
        "proxy_get_buffer_bytes",
        "proxy_get_header_map_value",
        "proxy_get_property",
        "proxy_get_shared_data",
        "proxy_http_call",
        "proxy_increment_metric",
        "proxy_log",
        "proxy_record_metric",
        "proxy_send_local_response",
        "proxy_set_property",
        "proxy_set_shared_data",
        "proxy_set_tick_period_milliseconds",
    ] {
        assert!(called.contains(&function), "{function} not in {called:?}");
    }
    Ok(())
}

#[test]
fn no_fault_at_any_time_stops_the_module() -> Result<()> {
    let days = days()?;
    println!("{} days, {} host functions", days.len(), functions()?.len());
    assert!(days.len() > 1000);
    for day in days {
        let Day {
            function,
            fault,
            when,
        } = &day;
        let run = day.run(&Proxy::new());
        run.map_err(|trap| trap.context(format!("{function}: {fault:.60?} in {when:?}")))?;
    }
    Ok(())
}

/// But for faults at load, which Envoy does not repeat, and for lies, which nobody can see through.
#[test]
fn requests_count_again_when_the_host_has_recovered() -> Result<()> {
    let healthy = Attributes::http().client(&Certificate::workload("spiffe://d/healthy"));
    for day in days()? {
        let (Some(Fault::Status(_)), Some(when)) = (&day.fault, day.when) else {
            continue;
        };
        if matches!(when, Phase::Boot | Phase::Configure) {
            continue;
        }
        let proxy = Proxy::new();
        let mut worker = day.run(&proxy)?;
        let before = proxy.total("mtls_requests_total");
        worker.exchange(&healthy)?;
        let counted = proxy.total("mtls_requests_total") - before;
        assert_eq!(counted, 1, "{} {:?} in {when:?}", day.function, day.fault);
    }
    Ok(())
}

/// A reply that nobody waits for: to no call, to one that was answered, to one of another worker.
#[test]
fn a_reply_to_no_call_is_passed_over() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    worker.tick()?;
    for token in [0, 1, 1, 2, 7, u32::MAX] {
        worker.reply(token, Reply::default())?;
    }
    worker.exchange(&Attributes::http().client(&Certificate::workload("spiffe://d/x")))?;
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    Ok(())
}

/// A host that says of every call that it was made, and makes none: the token is always 0.
#[test]
fn a_call_that_was_never_made_is_a_failed_call() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let errors = "result=.=error;.;mtls_watch_hierarchy_polls_total";
    worker.host().faults = Faults::from([("proxy_http_call", Fault::Lie(Vec::new()))]);
    worker.tick()?;
    assert_eq!(proxy.counter(errors), 0);
    proxy.advance(Duration::from_secs(3600));
    worker.tick()?;
    assert!(proxy.counter(errors) > 0);
    Ok(())
}

/// The root context of a plugin is made once, whatever the host says.
#[test]
fn a_root_context_that_is_created_twice_is_one() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    worker.enter::<_, ()>(1, "proxy_on_context_create", (1_u32, 0_u32))?;
    worker.exchange(&Attributes::http().client(&Certificate::workload("spiffe://d/x")))?;
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    Ok(())
}

/// What a context is, its first event tells, whatever else the host keeps to itself.
#[test]
fn a_context_of_which_nothing_is_known_goes_on() -> Result<()> {
    let client = Certificate::workload("spiffe://d/x");
    for status in (2..=12).chain([255]) {
        let failing = Faults::from([("proxy_get_property", Fault::Status(status))]);
        for attributes in [Attributes::http(), Attributes::network()] {
            let mut worker = Proxy::new().worker("")?;
            let attributes = attributes.client(&client);
            let known = worker.open(&attributes)?;
            worker.request_or_data(known)?;
            worker.host().faults = failing.clone();
            let unknown = worker.open(&attributes)?;
            assert_eq!(
                worker.request_or_data(unknown)?,
                CONTINUE,
                "status {status}"
            );
            worker.finish(unknown)?;
        }
    }
    Ok(())
}

/// A request has no data of a connection, and the other way round.
#[test]
fn an_event_of_the_other_kind_is_passed_over() -> Result<()> {
    let client = Certificate::workload("spiffe://d/x");
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let request = worker.open(&Attributes::http().client(&client))?;
    let connection = worker.open(&Attributes::network().client(&client))?;
    worker.request_headers(request, Vec::new())?;
    worker.downstream_data(connection)?;
    assert_eq!(worker.request_headers(connection, Vec::new())?, CONTINUE);
    assert_eq!(worker.response_headers(connection, Vec::new())?, CONTINUE);
    assert_eq!(worker.downstream_data(request)?, CONTINUE);
    assert_eq!(worker.upstream_data(request)?, CONTINUE);
    worker.disconnect(request)?;
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    assert_eq!(proxy.total("mtls_connections_total"), 1);
    Ok(())
}

/// Without a clock nothing can be said of dates; least of all that they have not come yet.
#[test]
fn a_failing_clock_invents_no_finding() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let client = |identity| Attributes::http().client(&Certificate::workload(identity));
    worker.exchange(&client("spiffe://d/before"))?;
    let clock = "proxy_get_current_time_nanoseconds";
    worker.host().faults = Faults::from([(clock, Fault::Status(10))]);
    worker.exchange(&client("spiffe://d/during"))?;
    let ok = "direction=.=inbound;.;status=.=ok;.;mtls_requests_total";
    assert_eq!(proxy.counter(ok), 2, "{:?}", worker.logs());
    Ok(())
}

#[test]
fn an_unreadable_configuration_is_refused_or_defaulted_but_no_trap() -> Result<()> {
    for fault in faults() {
        let faults = Faults::from([("proxy_get_buffer_bytes", fault.clone())]);
        let proxy = Proxy::new();
        let mut worker = proxy.unconfigured_with(faults)?;
        if worker.configure("{}")? {
            worker.exchange(&Attributes::http().client(&Certificate::workload("spiffe://d/x")))?;
            assert_eq!(proxy.total("mtls_requests_total"), 1, "{fault:.60?}");
        }
    }
    Ok(())
}

/// Somebody else is always faster: the module gives up after a few attempts, and goes on.
#[test]
fn contended_shared_data_holds_nothing_up() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let conflict = Fault::Status(CAS_MISMATCH);
    worker.host().faults = Faults::from([("proxy_set_shared_data", conflict)]);
    for number in 0..10 {
        let client = Certificate::workload(&format!("spiffe://d/{number}"));
        worker.take_calls();
        worker.exchange(&Attributes::http().client(&client))?;
        worker.tick()?;
        let attempts = worker.take_calls()["proxy_set_shared_data"];
        assert!(attempts < 200, "{attempts} for peer {number}");
    }
    assert_eq!(proxy.total("status=.=ok;.;mtls_requests_total"), 10);
    Ok(())
}

/// An hour, a year, or before every certificate: peers are judged by whatever time it is said to be.
#[test]
fn a_clock_that_is_set_back_disturbs_nothing() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker(CONFIGURATION)?;
    let month_old = Leaf::new("spiffe://d/x").valid(-30 * DAY, 300 * DAY).sign();
    let client = Attributes::http().client(&month_old);
    let known =
        worker.open(&Attributes::network().client(&Certificate::workload("spiffe://d/y")))?;
    worker.downstream_data(known)?;
    let mut requests = 0;
    for back in [1, 3600, 365 * 86_400, 20 * 365 * 86_400].map(Duration::from_secs) {
        proxy.set_clock_back(back);
        for _ in 0..2 {
            worker.exchange(&client)?;
            assert_eq!(worker.downstream_data(known)?, CONTINUE);
            worker.tick()?;
            requests += 1;
        }
        proxy.advance(back);
        worker.tick()?;
    }
    worker.disconnect(known)?;
    assert_eq!(proxy.total("mtls_requests_total"), requests);
    // A year and twenty years ago, the certificate was not valid.
    assert_eq!(
        proxy.total("status=.=not_yet_valid;.;mtls_requests_total"),
        4
    );
    assert_eq!(proxy.total("status=.=ok;.;mtls_requests_total"), 4);
    Ok(())
}
