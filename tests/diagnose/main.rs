//! `mtls-watch diagnose` on real Envoys: what it says of two sides, against what a handshake between them does; and the
//! failures that people meet, each with the verdict that they need.

mod article;
mod cases;
mod pairs;
mod pods;
mod prometheus;
mod proxies;
