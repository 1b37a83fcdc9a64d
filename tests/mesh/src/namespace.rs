//! Workloads in a namespace of their own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::kubectl::{apply, get, kubectl};
use crate::prometheus::{http_get, query};
use crate::{DEADLINE, eventually};

/// A namespace. The runner deletes it when the scenario is over, and its logs are kept if need be.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

/// One pod of `app` (tools/mesh/istio/app), with a service account and a service of its name.
#[derive(Clone, Debug, Default)]
pub struct Workload<'a> {
    /// Of the deployment, the service and the account.
    pub name: &'a str,
    /// What it calls all the while.
    pub targets: &'a [&'a str],
    /// Of the proxy (`proxy.istio.io/config`), as YAML in one line.
    pub proxy_config: &'a str,
}

/// The ports of every workload's service, and the one that is not behind the sidecar.
const PORTS: &str = "[{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 9090}, {name: tcp, port: 7000}, {name: tcp-greeting, port: 7001}]";

/// What the namespaces of scenarios are labelled with.
const LABEL: &str = "mtls-watch";

/// Deletes the namespaces of all scenarios, without waiting for it.
///
/// # Errors
/// If the API server refuses.
pub fn delete_all() -> Result<()> {
    let label = format!("{LABEL}=scenario");
    kubectl(&["delete", "namespace", "--selector", &label, "--wait=false"]).map(drop)
}

impl Namespace {
    /// With sidecars.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn injected(name: &str) -> Result<Self> {
        Self::new(name, "enabled")
    }

    /// Outside the mesh.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn outside(name: &str) -> Result<Self> {
        Self::new(name, "disabled")
    }

    fn new(name: &str, injection: &str) -> Result<Self> {
        // What a run that was interrupted has left.
        kubectl(&["delete", "namespace", name, "--ignore-not-found"])?;
        apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{istio-injection: {injection}, {LABEL}: scenario}}}}}}"
        ))?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Starts workloads, and waits until they are ready.
    ///
    /// # Errors
    /// If one is not within the deadline.
    pub fn start(&self, workloads: &[Workload<'_>]) -> Result<()> {
        self.apply(workloads)?;
        self.wait()
    }

    /// Starts workloads, and does not wait.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn apply(&self, workloads: &[Workload<'_>]) -> Result<()> {
        let manifests: Vec<String> = workloads
            .iter()
            .map(|workload| self.manifest(workload))
            .collect();
        apply(&manifests.join("\n---\n"))
    }

    fn manifest(&self, workload: &Workload<'_>) -> String {
        let (namespace, name, targets) = (&self.name, workload.name, workload.targets);
        let config = if workload.proxy_config.is_empty() {
            "{}"
        } else {
            workload.proxy_config
        };
        format!(
            r#"{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {namespace}}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{selector: {{app: {name}}}, ports: {PORTS}}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations:
        traffic.sidecar.istio.io/excludeInboundPorts: "8081"
        proxy.istio.io/config: '{config}'
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: mesh.local/app:1
          imagePullPolicy: IfNotPresent
          args: {targets:?}
          env: [{{name: NAME, value: {name}}}]
          ports: [{{name: control, containerPort: 8081}}]
          readinessProbe: {{httpGet: {{path: /metrics, port: 8081}}, periodSeconds: 1}}
"#
        )
    }

    /// Waits until every deployment is available, and nothing of an older one is left.
    ///
    /// # Errors
    /// If that is not so within the deadline.
    pub fn wait(&self) -> Result<()> {
        let found = get(&["deployments", "--namespace", &self.name])?;
        let found = found["items"].as_array().context("no deployments")?;
        let mut replicas = 0;
        for deployment in found {
            let name = deployment["metadata"]["name"].as_str();
            let deployment_name = format!("deployment/{}", name.unwrap_or(""));
            replicas += deployment["spec"]["replicas"].as_u64().unwrap_or(1);
            let timeout = format!("--timeout={}s", DEADLINE.as_secs());
            kubectl(&[
                "rollout",
                "status",
                &deployment_name,
                "--namespace",
                &self.name,
                &timeout,
            ])?;
        }
        eventually(DEADLINE, || {
            let pods = self.pods()?;
            ensure!(pods.len() as u64 == replicas, "old pods are left: {pods:?}");
            Ok(())
        })
    }

    /// Restarts workloads as a user does.
    ///
    /// # Errors
    /// If they are not ready within the deadline.
    pub fn restart(&self, workloads: &[&str]) -> Result<()> {
        for workload in workloads {
            let deployment = format!("deployment/{workload}");
            kubectl(&["rollout", "restart", &deployment, "--namespace", &self.name])?;
        }
        self.wait()
    }

    /// Scales a workload, and waits until its pods are there, or gone.
    ///
    /// # Errors
    /// If that is not so within the deadline.
    pub fn scale(&self, workload: &str, replicas: usize) -> Result<()> {
        let deployment = format!("deployment/{workload}");
        let replicas = format!("--replicas={replicas}");
        kubectl(&["scale", &deployment, "--namespace", &self.name, &replicas])?;
        self.wait()
    }

    /// The pods, by the name of their workload and their address.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn pods(&self) -> Result<Vec<(String, String)>> {
        let pods = get(&["pods", "--namespace", &self.name])?;
        let pods = pods["items"].as_array().context("no pods")?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
        let pods = pods.iter();
        Ok(pods
            .map(|pod| {
                (
                    text(&pod["metadata"]["labels"]["app"]),
                    text(&pod["status"]["podIP"]),
                )
            })
            .collect())
    }

    /// The address of the workload's pod.
    ///
    /// # Errors
    /// If there is none.
    pub fn address(&self, workload: &str) -> Result<String> {
        let pods = self.pods()?;
        let pod = pods.into_iter().find(|(name, _)| name == workload);
        pod.map(|(_, address)| address)
            .with_context(|| format!("no pod of {workload}"))
    }

    /// Has a workload make one call now.
    ///
    /// # Errors
    /// If the call fails; the error says how.
    pub fn call(&self, from: &str, target: &str) -> Result<()> {
        Self::call_from(&self.address(from)?, target)
    }

    /// Has the workload at this address make one call now.
    ///
    /// # Errors
    /// If the call fails; the error says how.
    pub fn call_from(address: &str, target: &str) -> Result<()> {
        http_get(&format!("http://{address}:8081/call?target={target}")).map(drop)
    }

    /// Waits until a call succeeds: the sidecars have what they need for it.
    ///
    /// # Errors
    /// After the deadline, the last failure.
    pub fn call_until_ok(&self, from: &str, target: &str) -> Result<()> {
        eventually(DEADLINE, || self.call(from, target))
    }

    /// How many calls of the workloads' load have ended so: `ok` or `failed`. Of the pods that live.
    ///
    /// # Errors
    /// If an app does not answer.
    pub fn calls(&self, result: &str) -> Result<u64> {
        Ok(self.calls_by_target(result)?.values().sum())
    }

    /// The same, for each target.
    ///
    /// # Errors
    /// If an app does not answer.
    pub fn calls_by_target(&self, result: &str) -> Result<BTreeMap<String, u64>> {
        let mut calls = BTreeMap::new();
        for (_, address) in self.pods()? {
            let metrics = http_get(&format!("http://{address}:8081/metrics"))?;
            let labelled = format!("result=\"{result}\"");
            for line in metrics.lines().filter(|line| line.contains(&labelled)) {
                let target = line.split('"').nth(1).unwrap_or("");
                let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
                *calls.entry(target.to_owned()).or_default() += count.unwrap_or(0);
            }
        }
        Ok(calls)
    }

    /// Waits until so many more calls have succeeded, and says how many have failed meanwhile.
    ///
    /// # Errors
    /// If they have not within the deadline.
    pub fn failures_during(&self, calls: u64) -> Result<u64> {
        let (ok, failed) = (self.calls("ok")?, self.calls("failed")?);
        eventually(DEADLINE, || {
            let now = self.calls("ok")?;
            ensure!(now >= ok + calls, "{} of {calls} calls", now - ok);
            Ok(())
        })?;
        Ok(self.calls("failed")? - failed)
    }

    /// The series of a metric in this namespace's proxies, now. `labels` as in PromQL.
    ///
    /// # Errors
    /// If Prometheus refuses the expression.
    pub fn series(&self, metric: &str, labels: &str) -> Result<Vec<crate::prometheus::Sample>> {
        query(&self.selector(metric, labels))
    }

    /// A PromQL selector of this namespace's series.
    #[must_use]
    pub fn selector(&self, metric: &str, labels: &str) -> String {
        let comma = if labels.is_empty() { "" } else { ", " };
        format!("{metric}{{namespace={:?}{comma}{labels}}}", self.name)
    }

    /// What the sidecar of a workload has logged of the module.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn module_log(&self, workload: &str) -> Result<String> {
        let deployment = format!("deployment/{workload}");
        let log = kubectl(&[
            "logs",
            &deployment,
            "--namespace",
            &self.name,
            "--container",
            "istio-proxy",
        ])?;
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("mtls-watch"))
            .collect();
        Ok(lines.join("\n"))
    }
}
