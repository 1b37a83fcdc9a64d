//! `mtls-watch rotation-status` on generated metrics, from files and over HTTP, and the pages
//! about it.

mod gates;
mod metrics;
mod rules;
mod run;
mod sources;
mod states;
