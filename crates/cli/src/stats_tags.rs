//! `mtls-watch stats-tags`.

use mtls_watch_core::metrics::{Label, tag_regex};

use crate::relabel::{self, Rule};
use crate::{GOOD, Output};

/// Print the configuration that turns parts of the module's metric names into labels.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Whose configuration
    #[arg(long, value_enum)]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `stats_config` of an Envoy bootstrap
    Envoy,
    /// `extraStatTags` of Istio's mesh configuration; takes effect when a pod restarts
    Istio,
    /// `metric_relabel_configs` of Prometheus, for proxies without tags; takes effect at once
    PrometheusRelabel,
    /// `metricRelabelings` of a PodMonitor: the same for the Prometheus operator
    PodMonitor,
}

pub(super) fn run(arguments: &Arguments) -> Output {
    let text = match arguments.format {
        Format::Envoy => envoy(),
        Format::Istio => istio(),
        Format::PrometheusRelabel => {
            relabel("metric_relabel_configs", ["source_labels", "target_label"])
        }
        Format::PodMonitor => relabel("metricRelabelings", ["sourceLabels", "targetLabel"]),
    };
    Output::new(&text, GOOD)
}

fn envoy() -> String {
    let tag = |label: &Label| {
        format!(
            "    - {{ tag_name: {}, regex: '{}' }}\n",
            label.as_str(),
            tag_regex(*label)
        )
    };
    let tags: String = Label::ALL.iter().map(tag).collect();
    format!("stats_config:\n  stats_tags:\n{tags}")
}

fn istio() -> String {
    let tag = |label: &Label| format!("      - {}\n", label.as_str());
    let tags: String = Label::ALL.iter().map(tag).collect();
    format!("meshConfig:\n  defaultConfig:\n    extraStatTags:\n{tags}")
}

const LOSS: &str = "\
# Makes labels of the names of mtls-watch's metrics where a proxy has no stats tags. Proxies that have them,
# and other metrics, pass unchanged. Without tags an identity has lost every character but letters, digits and
# underscores: spiffe://cluster.local/ns/shop/sa/pay reads spiffe___cluster_local_ns_shop_sa_pay.
";

/// The rules under the keys that Prometheus itself and its operator have for them.
fn relabel(list: &str, [source_labels, target_label]: [&str; 2]) -> String {
    let rules = relabel::rules().map(|rule| {
        let Rule {
            sources,
            regex,
            target,
            replacement,
        } = rule;
        let sources = sources.join(", ");
        format!(
            "  - {source_labels}: [{sources}]\n    regex: '{regex}'\n    {target_label}: '{target}'\n    replacement: '{replacement}'\n"
        )
    });
    format!("{LOSS}{list}:\n{}", rules.collect::<String>())
}
