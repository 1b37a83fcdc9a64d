//! A pod, over kubectl: by a forwarded port, and where that is not allowed by the agent in its sidecar. No shell and no
//! image is needed in the pod.

use std::time::Duration;

use super::{SourceError, admin};
use crate::diagnose::target::{Origin, Pod, Target};
use crate::http::Http;
use crate::kubectl::Cluster;

/// The container of the sidecar, in Istio's gateways the only one.
const SIDECAR: &str = "istio-proxy";

/// How pods are reached.
pub(super) struct Way<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) http: &'a Http,
    /// Of the admin interface.
    pub(super) port: u16,
    pub(super) limit: Duration,
}

/// Reads a pod by its name.
///
/// # Errors
/// If neither way leads to its admin interface: what each has said.
pub(super) fn read(
    name: &str,
    way: &Way<'_>,
    watch: Option<Duration>,
) -> Result<Target, SourceError> {
    let target = forwarded(name, way, watch).or_else(|first| {
        by_agent(name, way, watch).map_err(|second| {
            SourceError::Content(format!("pod/{name}"), format!("{first}; and {second}"))
        })
    })?;
    Ok(Target {
        origin: match target.origin {
            Origin::Admin => Origin::Pod(Pod {
                name: name.to_owned(),
                options: way.cluster.options(),
            }),
            other => other,
        },
        ..target
    })
}

fn forwarded(name: &str, way: &Way<'_>, watch: Option<Duration>) -> Result<Target, SourceError> {
    let forward = way.cluster.forward(name, way.port, way.limit)?;
    let base = format!("http://127.0.0.1:{}", forward.port());
    let get = |path: &str| Ok(way.http.get(&format!("{base}{path}"))?);
    admin::read(&format!("pod/{name}"), &get, watch)
}

fn by_agent(name: &str, way: &Way<'_>, watch: Option<Duration>) -> Result<Target, SourceError> {
    let pod = format!("pod/{name}");
    let get = |path: &str| {
        let arguments = [
            "exec",
            &pod,
            "-c",
            SIDECAR,
            "--",
            "pilot-agent",
            "request",
            "GET",
            path,
        ];
        Ok(way.cluster.run(&arguments, way.limit)?)
    };
    admin::read(&format!("pod/{name}"), &get, watch)
}
