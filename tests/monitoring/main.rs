//! What operators load besides the module: alerts, dashboard and runbooks, each through its own parser,
//! and against a Prometheus that scrapes real Envoys.

mod dashboard;
mod dead;
mod files;
mod fleet;
mod mixin;
mod pages;
mod rules;
mod simulation;
mod store;
