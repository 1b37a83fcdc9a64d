//! Where a target is read from. Each source only builds a [`Target`]: it judges nothing.

mod admin;
mod file;
mod pod;

use std::time::Duration;

use thiserror::Error;

use super::target::{Context, Target};
use crate::http::{Http, HttpError};
use crate::kubectl::{Cluster, KubectlError};

pub(super) use file::bundle;

/// Why a target says nothing.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    #[error("{0}")]
    File(String),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("{0}: {1}")]
    Content(String, String),
}

/// How targets are read.
pub(super) struct Reader<'a> {
    pub(super) http: &'a Http,
    pub(super) cluster: &'a Cluster,
    /// Of a pod's admin interface.
    pub(super) admin_port: u16,
    /// How long to wait for each answer.
    pub(super) limit: Duration,
    /// Between two looks at the counters; `None`: one look.
    pub(super) watch: Option<Duration>,
    pub(super) password: &'a str,
    /// The bundle for those that have none.
    pub(super) trusted: Option<&'a Context>,
}

impl Reader<'_> {
    /// The pods that a selector finds, as arguments.
    ///
    /// # Errors
    /// What kubectl says, or that there is none.
    pub(super) fn pods(&self, selector: &str) -> Result<Vec<String>, SourceError> {
        let pods = self.cluster.pods(selector, self.limit)?;
        match pods.is_empty() {
            true => Err(SourceError::Content(
                format!("--selector {selector}"),
                "there is no such pod".to_owned(),
            )),
            false => Ok(pods.into_iter().map(|pod| format!("pod/{pod}")).collect()),
        }
    }

    /// Reads what an argument names: a pod, a URL, `-`, or a file.
    ///
    /// # Errors
    /// [`SourceError`] if nothing of it could be read.
    pub(super) fn read(&self, argument: &str) -> Result<Target, SourceError> {
        let is_url = argument.starts_with("http://") || argument.starts_with("https://");
        let mut target = match (argument.strip_prefix("pod/"), is_url) {
            (Some(name), _) => {
                let way = pod::Way {
                    cluster: self.cluster,
                    http: self.http,
                    port: self.admin_port,
                    limit: self.limit,
                };
                pod::read(name, &way, self.watch)?
            }
            (None, true) => {
                let base = argument.trim_end_matches('/');
                let get = |path: &str| Ok(self.http.get(&format!("{base}{path}"))?);
                admin::read(base, &get, self.watch)?
            }
            (None, false) => file::read(argument, self.password)?,
        };
        if let Some(trusted) = self.trusted {
            for context in target
                .contexts
                .iter_mut()
                .filter(|it| it.trust.seen().is_none())
            {
                context.trust = trusted.trust.clone();
            }
        }
        Ok(target)
    }
}
