//! What operators load besides the module: alerts, dashboard and runbooks, each through its own parser,
//! and against a Prometheus that scrapes real Envoys.

mod dashboard;
mod files;
mod fleet;
mod pages;
mod rules;
mod store;
