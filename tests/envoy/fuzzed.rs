//! Any configuration: the module loads with it, new and in the place of another, static, over LDS and over ECDS, as HTTP
//! and as network filter, and not one request or connection fails. `FULL=1` takes many more.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mtls_watch_core::config::Config;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use testbed::envoy::free_port;
use testbed::sample::yaml;
use testbed::stats::eventually;
use testbed::{Sample, Server};

use crate::delivery::Delivery;
use crate::setup::{CONFIGURATION_ERRORS, CONNECTIONS, INBOUND, Pki, Proxy, REQUESTS};
use crate::updates::load;

/// Other tests run at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys of all levels, and words of all lists, right and wrong.
const WORDS: [&str; 48] = [
    "thresholds",
    "workload",
    "issuing_ca",
    "root_ca",
    "warning",
    "critical",
    "identity_series",
    "certificate_sources",
    "filter_state_key",
    "strip_xfcc_certificates",
    "hierarchy",
    "admin_cluster",
    "interval",
    "identity",
    "ignore",
    "finding",
    "identity_prefix",
    "layer",
    "flag",
    "request_header",
    "response_header",
    "deny",
    "log_repeat",
    "nonsense",
    "21d",
    "1s",
    "0s",
    "99999999999999999999d",
    "25%",
    "16 %",
    "attribute",
    "xfcc",
    "expired",
    "Expired",
    "hashed",
    "off",
    "prometheus_stats",
    "no_such_cluster",
    "x-peer",
    "host",
    "Content-Length",
    "transfer-encoding",
    ":path",
    "",
    "é\u{301}",
    "\u{0}",
    "a\r\nb: c",
    "../../etc/passwd",
];

fn value() -> BoxedStrategy<Value> {
    let scalar = prop_oneof![
        6 => select(&WORDS[..]).prop_map(Value::from),
        2 => select(vec![json!(0), json!(7), json!(-1), json!(1.5), json!(1e300), json!(u64::MAX), json!(true), Value::Null]),
        1 => "\\PC{0,300}".prop_map(Value::from),
    ];
    scalar
        .prop_recursive(3, 24, 4, |inner| {
            let members = vec((select(&WORDS[..]), inner.clone()), 0..4);
            prop_oneof![
                vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(object)
            ]
        })
        .boxed()
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    let members = members.into_iter();
    members
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// What is written in the place of a configuration.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let keys = &WORDS[..];
    let written = vec((select(keys), value()), 0..5);
    let written = written
        .prop_map(|members| object(members).to_string().into_bytes())
        .boxed();
    let broken = (
        written.clone(),
        any::<prop::sample::Index>(),
        vec(any::<u8>(), 0..4),
    );
    let broken = broken.prop_map(|(mut text, place, bytes)| {
        let place = place.index(text.len());
        text.splice(place..(place + 1).min(text.len()), bytes);
        text
    });
    let size = 1..200_000_usize;
    prop_oneof![
        8 => written,
        4 => broken,
        2 => value().prop_map(|value| value.to_string().into_bytes()),
        2 => vec(any::<u8>(), 0..200),
        1 => size.clone().prop_map(|size| b"[".repeat(size)),
        1 => size.prop_map(|size| format!(r#"{{"filter_state_key": "{}"}}"#, "k".repeat(size)).into_bytes()),
    ]
}

/// A plugin configuration as Envoy takes it, and how many errors it has.
#[derive(Clone, Debug)]
struct Configuration {
    message: Value,
    errors: f64,
}

/// The same ones each time.
fn configurations() -> Vec<Configuration> {
    let count = if testbed::is_full() { 400 } else { 25 };
    let mut runner = TestRunner::deterministic();
    let strategy = text();
    let texts =
        std::iter::repeat_with(|| strategy.new_tree(&mut runner).expect("a text").current());
    // What refuses is meant to.
    let harmless = texts.filter(|text| Config::read(text).0.deny.is_empty());
    harmless.take(count).map(Configuration::of).collect()
}

impl Configuration {
    fn of(text: Vec<u8>) -> Self {
        let message = match String::from_utf8(text.clone()) {
            Ok(text) => {
                json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
            }
            Err(_) => json!({
                "@type": "type.googleapis.com/google.protobuf.BytesValue",
                "value": BASE64.encode(&text),
            }),
        };
        let errors = Config::read(&text).1.len();
        Self {
            message,
            errors: errors as f64,
        }
    }

    /// In the place of that of each filter of the module.
    fn within(&self, sample: Sample) -> Sample {
        let configuration = yaml(self.message.clone());
        sample.edit(|node| {
            if let Some(plugin) = node.as_mapping_mut()
                && plugin.contains_key("vm_config")
            {
                plugin.insert("configuration".into(), configuration.clone());
            }
        })
    }
}

/// A listener for each.
#[test]
fn configurations_load_from_the_bootstrap() -> Result<()> {
    const EACH: usize = 3;
    let pki = Pki::new()?;
    let client = pki.client()?;
    let configurations = configurations();
    for (file, counter) in [("http.yaml", REQUESTS), ("network.yaml", CONNECTIONS)] {
        let server = Server::http_echo(None)?;
        let mut sample = pki.sample(file)?.upstream("app", server.port());
        for number in 1..configurations.len() {
            sample = sample.with_copies(&["inbound"], &format!("-{number}"));
        }
        let mut given = configurations.iter();
        let sample = sample.edit(|node| {
            if let Some(plugin) = node.as_mapping_mut()
                && plugin.contains_key("vm_config")
                && let Some(configuration) = given.next()
            {
                plugin.insert("configuration".into(), yaml(configuration.message.clone()));
            }
        });
        let envoy = sample.start(2)?;
        for (number, configuration) in configurations.iter().enumerate() {
            let listener = match number {
                0 => "inbound".to_owned(),
                _ => format!("inbound-{number}"),
            };
            let port = envoy.listener_port(&listener)?;
            for _ in 0..EACH {
                let response = client
                    .get(port, "/", &[])
                    .with_context(|| format!("{configuration:?}"))?;
                ensure!(
                    response.status == 200,
                    "{} with {configuration:?}",
                    response.status
                );
            }
        }
        // The module was there, and not only let pass.
        let expected = (EACH * configurations.len()) as f64;
        eventually(PATIENCE, || {
            let counted = envoy.stats()?.sum(counter, &[INBOUND]);
            ensure!(counted == expected, "{counted} of {expected}");
            Ok(())
        })?;
        ensure!(!envoy.log().contains("bug, please report"), "a panic");
    }
    Ok(())
}

#[test]
fn configurations_replace_one_another_over_lds() -> Result<()> {
    replace_all(Delivery::Lds)
}

#[test]
fn configurations_replace_one_another_over_ecds() -> Result<()> {
    replace_all(Delivery::Ecds)
}

/// Replaces the configuration of a running Envoy again and again, under load.
fn replace_all(delivery: Delivery) -> Result<()> {
    let pki = Pki::new()?;
    let server = Server::http_echo(None)?;
    let sample = pki.sample("both.yaml")?.listen("inbound", free_port()?);
    let sample = sample.upstream("app", server.port());
    let configurations = configurations();
    let deliver = |configuration: &Configuration| {
        delivery.deliver(pki.directory(), &configuration.within(sample.clone()))
    };
    deliver(&configurations[0])?;
    let watching = delivery.watching(pki.directory(), sample.clone());
    let proxy = Proxy::start(watching, ("inbound", "app"), server, 2)?;
    let client = pki.client()?;
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| load(&proxy, &client, &sent, &stop)));
        let replaced = configurations.iter().skip(1).try_for_each(|configuration| {
            let (before, _) = delivery.updates(&proxy.stats()?);
            deliver(configuration)?;
            is_in_force(&proxy, delivery, before, configuration, &sent)
                .with_context(|| format!("{configuration:?}"))
        });
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .expect("no panic")
                .context("a request was lost")?;
        }
        replaced
    })?;
    let sent = f64::from(sent.into_inner());
    eventually(PATIENCE, || {
        let stats = proxy.stats()?;
        let counted = [REQUESTS, CONNECTIONS].map(|counter| stats.sum(counter, &[INBOUND]));
        ensure!(counted == [sent, sent], "{counted:?} of {sent}");
        Ok(())
    })?;
    let (_, refused) = delivery.updates(&proxy.stats()?);
    ensure!(refused == 0.0, "{refused} were refused");
    ensure!(!proxy.envoy.log().contains("bug, please report"), "a panic");
    Ok(())
}

/// Its errors are told, and requests have been sent since.
fn is_in_force(
    proxy: &Proxy,
    delivery: Delivery,
    before: f64,
    configuration: &Configuration,
    sent: &AtomicU32,
) -> Result<()> {
    const REQUESTS_BETWEEN: u32 = 20;
    eventually(PATIENCE, || {
        let stats = proxy.stats()?;
        let updates = delivery.updates(&stats);
        ensure!(updates.0 > before, "{updates:?} updates after {before}");
        let told = stats.value(CONFIGURATION_ERRORS, &[]);
        ensure!(told == Some(configuration.errors), "{told:?} errors");
        Ok(())
    })?;
    let start = sent.load(Ordering::Relaxed);
    eventually(PATIENCE, || {
        let since = sent.load(Ordering::Relaxed) - start;
        ensure!(since >= REQUESTS_BETWEEN, "{since} requests since");
        Ok(())
    })
}
