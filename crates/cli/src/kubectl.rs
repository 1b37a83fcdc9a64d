//! Kubernetes by `kubectl`: whatever a user's configuration needs to log in (exec plugins, OIDC, proxies), it has.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long to sleep between two looks at a child.
const POLL: Duration = Duration::from_millis(20);

/// How to reach the cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cluster {
    /// Namespace of the pods
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of kubectl's configuration
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// The program that is kubectl
    #[arg(long, value_name = "PROGRAM", default_value = "kubectl")]
    kubectl: String,
}

/// Why kubectl has not done it.
#[derive(Debug, Error)]
pub(crate) enum KubectlError {
    #[error("{command}: {error}")]
    Start {
        command: String,
        error: std::io::Error,
    },
    #[error("{command}: {said}")]
    Failed { command: String, said: String },
    #[error("{command}: no answer within {} s", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
}

impl Cluster {
    /// The options by which kubectl finds the cluster and the namespace.
    pub(crate) fn options(&self) -> Vec<String> {
        let pair = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}={value}"))
        };
        let pairs = [
            pair("--context", &self.context),
            pair("--namespace", &self.namespace),
        ];
        pairs.into_iter().flatten().collect()
    }

    /// The names of the pods that a selector finds.
    ///
    /// # Errors
    /// [`KubectlError`], with what kubectl said.
    pub(crate) fn pods(
        &self,
        selector: &str,
        limit: Duration,
    ) -> Result<Vec<String>, KubectlError> {
        let selector = format!("--selector={selector}");
        let names = self.run(&["get", "pods", &selector, "--output=name"], limit)?;
        let names = String::from_utf8_lossy(&names);
        let names = names
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pod/"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs kubectl, and returns what it prints.
    ///
    /// # Errors
    /// [`KubectlError`], with what kubectl said.
    pub(crate) fn run(&self, arguments: &[&str], limit: Duration) -> Result<Vec<u8>, KubectlError> {
        let (mut child, command) = self.start(arguments)?;
        let output = child.stdout.take().map(read_all);
        let complaint = child.stderr.take().map(read_all);
        let deadline = Instant::now() + limit;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
                Ok(None) => {
                    end(&mut child);
                    return Err(KubectlError::TimedOut { command, limit });
                }
                Err(error) => return Err(KubectlError::Start { command, error }),
            }
        };
        let bytes = |reader: Option<mpsc::Receiver<Vec<u8>>>| {
            reader
                .and_then(|it| it.recv_timeout(limit).ok())
                .unwrap_or_default()
        };
        match status.success() {
            true => Ok(bytes(output)),
            false => Err(KubectlError::Failed {
                command,
                said: said(&bytes(complaint)),
            }),
        }
    }

    /// Forwards a local port to one of a pod, as long as the result lives.
    ///
    /// # Errors
    /// [`KubectlError`], with what kubectl said.
    pub(crate) fn forward(
        &self,
        pod: &str,
        port: u16,
        limit: Duration,
    ) -> Result<Forward, KubectlError> {
        let (pod, port) = (format!("pod/{pod}"), format!(":{port}"));
        let (mut child, command) = self.start(&["port-forward", &pod, &port])?;
        let (sender, receiver) = mpsc::channel();
        let output = child.stdout.take();
        let complaint = child.stderr.take().map(read_all);
        thread::spawn(move || {
            for line in output
                .into_iter()
                .flat_map(|it| BufReader::new(it).lines())
                .map_while(Result::ok)
            {
                // Nobody waits any more: the pipe is still emptied.
                let _ = sender.send(line);
            }
        });
        let mut forward = Forward { child, port: 0 };
        match receiver.recv_timeout(limit) {
            Ok(line) => match forwarded(&line) {
                Some(port) => {
                    forward.port = port;
                    Ok(forward)
                }
                None => Err(KubectlError::Failed {
                    command,
                    said: line,
                }),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => Err(KubectlError::TimedOut { command, limit }),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let bytes = complaint.and_then(|it| it.recv_timeout(limit).ok());
                Err(KubectlError::Failed {
                    command,
                    said: said(&bytes.unwrap_or_default()),
                })
            }
        }
    }

    fn start(&self, arguments: &[&str]) -> Result<(Child, String), KubectlError> {
        let options = self.options();
        let mut words = vec![self.kubectl.as_str()];
        words.extend(options.iter().map(String::as_str));
        words.extend(arguments);
        let line = words.join(" ");
        let child = Command::new(&self.kubectl)
            .args(&options)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match child {
            Ok(child) => Ok((child, line)),
            Err(error) => Err(KubectlError::Start {
                command: line,
                error,
            }),
        }
    }
}

/// A port of 127.0.0.1 that leads to a pod. Dropping it ends kubectl.
#[derive(Debug)]
pub(crate) struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It has ended already, or is ended now.
    let _ = child.kill();
    let _ = child.wait();
}

/// `Forwarding from 127.0.0.1:40123 -> 15000`.
fn forwarded(line: &str) -> Option<u16> {
    let (address, _) = line.strip_prefix("Forwarding from ")?.split_once(" -> ")?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// Reads in a thread of its own: a pipe that is full stops the child.
fn read_all(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came until it broke off is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// The last line: what comes before are often warnings.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .next_back()
        .unwrap_or("it ended without a word")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(program: &str) -> Cluster {
        Cluster {
            namespace: None,
            context: None,
            kubectl: program.to_owned(),
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_it_prints_is_returned() {
        assert_eq!(cluster("echo").run(&["hello"], LIMIT).unwrap(), b"hello\n");
    }

    #[test]
    fn what_fails_is_named_with_its_command() {
        let failed = cluster("ls")
            .run(&["/no/such/file"], LIMIT)
            .unwrap_err()
            .to_string();
        assert!(failed.starts_with("ls /no/such/file: ls: "), "{failed}");
        let absent = cluster("no-such-program")
            .run(&["get"], LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            absent.starts_with("no-such-program get: No such file"),
            "{absent}"
        );
        let forward = cluster("ls")
            .forward("cart", 15_000, LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            forward.starts_with("ls port-forward pod/cart :15000: ls: "),
            "{forward}"
        );
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let limit = Duration::from_millis(50);
        let error = cluster("sleep").run(&["60"], limit).unwrap_err();
        assert!(matches!(error, KubectlError::TimedOut { .. }), "{error}");
    }

    #[test]
    fn the_port_is_read_from_what_kubectl_prints() {
        assert_eq!(
            forwarded("Forwarding from 127.0.0.1:40123 -> 15000"),
            Some(40_123)
        );
        assert_eq!(
            forwarded("Forwarding from [::1]:40123 -> 15000"),
            Some(40_123)
        );
        assert_eq!(forwarded("error: no such pod"), None);
    }
}
