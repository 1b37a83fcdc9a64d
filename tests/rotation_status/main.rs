//! `mtls-watch rotation-status` on generated metrics, from files and over HTTP; and the rules of
//! envoy-config/prometheus through promtool.

mod gates;
mod metrics;
mod rules;
mod run;
mod sources;
mod states;
