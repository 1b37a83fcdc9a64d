//! `mtls-watch stats-tags`.

use mtls_watch::metrics::{Label, tag_regex};

use super::{GOOD, Outcome};

/// Print the tag configuration for every label of this version.
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
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let text = match arguments.format {
        Format::Envoy => envoy(),
        Format::Istio => istio(),
    };
    Outcome { text, code: GOOD }
}

fn envoy() -> String {
    let tags = Label::ALL.map(|label| {
        format!(
            "    - {{ tag_name: {}, regex: '{}' }}\n",
            label.as_str(),
            tag_regex(label)
        )
    });
    format!("stats_config:\n  stats_tags:\n{}", tags.concat())
}

fn istio() -> String {
    let tags = Label::ALL.map(|label| format!("      - {}\n", label.as_str()));
    format!(
        "meshConfig:\n  defaultConfig:\n    extraStatTags:\n{}",
        tags.concat()
    )
}
