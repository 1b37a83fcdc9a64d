//! From the flattened name of a metric back to its labels, in Prometheus' relabelling rules.
//!
//! Envoy without tags prints `direction=.=inbound;.;layer=.=workload;.;identity=.=a/b;.;mtls_x` as
//! `direction___inbound___layer___workload___identity___a_b___mtls_x`: every character but letters and
//! digits becomes `_`. The labels are taken off from the front, one by one. That is exact, because a
//! value from a closed set has no `___` in it, no metric has either, and where the value is open, what
//! follows it is known: after a secret one of a few labels, after the name of a CA the digits of its
//! certificate or nothing.

use mtls_watch_core::metrics::{CATALOGUE, INFO, Label};

/// A rule with the action `replace`. Prometheus anchors the expression at both ends, and joins
/// several sources with `;`.
pub(super) struct Rule {
    pub(super) sources: &'static [&'static str],
    pub(super) regex: String,
    pub(super) target: &'static str,
    pub(super) replacement: &'static str,
}

/// The metric's own name, of a histogram with `_bucket`, `_sum` or `_count`.
const NAME: &str = "mtls_[a-z_]+";
/// A value from a closed set.
const WORDS: &str = "[a-z]+(?:_[a-z]+)*";
/// The digits of a key identifier, with which the name of a CA ends, or of a certificate.
const DIGITS: &str = "[0-9a-f]{8}";

/// All rules, in the order in which they must be applied.
pub(super) fn rules() -> impl Iterator<Item = Rule> {
    let closed = keys(Label::ALL.iter().copied().filter(|label| label.is_closed()));
    let closed = format!("({closed})___({WORDS})___(.*{NAME})");
    let leading = std::iter::repeat_n(closed, leading_closed_labels());
    let followers = keys(followers_of_secret());
    let secret = format!("(secret)___(.*?)___((?:{followers})___.*{NAME})");
    let named = format!("(identity|ca)___(.*)___(certificate___{DIGITS}___{NAME})");
    let last = format!("({})___(.*)___({NAME})", keys(Label::ALL.iter().copied()));
    let taken_off = leading.chain([secret, named, last]).flat_map(take_off);
    taken_off.chain(restore())
}

/// The first label of the name, and the name without it.
fn take_off(regex: String) -> [Rule; 2] {
    let sources = &["__name__"];
    [
        Rule {
            sources,
            regex: regex.clone(),
            target: "$1",
            replacement: "$2",
        },
        Rule {
            sources,
            regex,
            target: "__name__",
            replacement: "$3",
        },
    ]
}

/// What a value has lost and its form gives back: the colon in the name of a CA, which rotations are
/// told by, and the dots of a version.
fn restore() -> [Rule; 4] {
    let ca = format!("{NAME};(.+)_({DIGITS})");
    [
        Rule {
            sources: &["__name__", "issuer"],
            regex: ca.clone(),
            target: "issuer",
            replacement: "$1:$2",
        },
        Rule {
            sources: &["__name__", "ca"],
            regex: ca,
            target: "ca",
            replacement: "$1:$2",
        },
        Rule {
            sources: &["__name__", "layer", "identity"],
            regex: format!("{NAME};(?:issuing_ca|intermediate_ca|root_ca);(.+)_({DIGITS})"),
            target: "identity",
            replacement: "$1:$2",
        },
        Rule {
            sources: &["__name__", "version"],
            regex: format!("{};([0-9]+)_([0-9]+)_([0-9]+)", INFO.description.name),
            target: "version",
            replacement: "$1.$2.$3",
        },
    ]
}

/// How many labels with closed values come before another label, at most.
fn leading_closed_labels() -> usize {
    let of_metric = |labels: &[Label]| {
        let before_last = labels.iter().rev().skip(1).rev();
        before_last.take_while(|label| label.is_closed()).count()
    };
    let counts = CATALOGUE.iter().map(|metric| of_metric(metric.labels));
    counts.max().unwrap_or(0)
}

/// The secret is the only label with an open value that other labels than the certificate follow.
fn followers_of_secret() -> impl Iterator<Item = Label> {
    let follows = |label: &Label| {
        let mut pairs = CATALOGUE.iter().flat_map(|metric| metric.labels.windows(2));
        pairs.any(|pair| pair == [Label::Secret, *label])
    };
    Label::ALL.iter().copied().filter(follows)
}

fn keys(labels: impl IntoIterator<Item = Label>) -> String {
    let keys: Vec<&str> = labels.into_iter().map(Label::as_str).collect();
    keys.join("|")
}
