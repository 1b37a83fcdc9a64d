//! The one async runtime under the synchronous façade.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

/// No single exchange with a proxy on this machine takes longer unless something is stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("the operating system grants threads"));

/// Runs `future` to its end, or fails after [`DEADLINE`]; `what` names it in the error.
pub(crate) fn block_on<T>(what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    RUNTIME.block_on(async {
        tokio::time::timeout(DEADLINE, future)
            .await
            .with_context(|| format!("{what}: no end after {DEADLINE:?}"))?
            .with_context(|| what.to_owned())
    })
}

/// Runs `future` in the background.
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    RUNTIME.spawn(future)
}
