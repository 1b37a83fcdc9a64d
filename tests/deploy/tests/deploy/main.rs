//! What operators apply: rendered by kubectl, checked against the schemas of Istio and Envoy Gateway,
//! its configuration against the module's own parser, and what it does to an Envoy in a real one.

mod configuration;
mod envoy_gateway;
mod istio;
mod kustomize;
mod monitoring;
mod pages;
mod proxy;
mod schema;
mod stats;
