//! The answer at a gate, and the reason for it.

/// The answer at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Yes.
    Open,
    /// It cannot be told, which is no yes.
    Unknown,
    /// No.
    Closed,
}

impl Verdict {
    /// As the answer to a gate's question.
    pub(crate) const fn answer(self) -> &'static str {
        match self {
            Self::Open => "yes",
            Self::Unknown => "unknown",
            Self::Closed => "no",
        }
    }
}

/// What stands in the way of a gate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Reason {
    /// Whether it closes the gate, or leaves it unknown.
    pub(crate) verdict: Verdict,
    /// The proxy it is about.
    pub(crate) proxy: Option<String>,
    /// The bundle that it is about, where the proxy has several.
    pub(crate) bundle: Option<String>,
    /// The CA it is about.
    pub(crate) ca: Option<String>,
    /// What is wrong, in words.
    pub(crate) what: String,
}

impl Reason {
    pub(crate) fn about(proxy: &str, ca: &str, verdict: Verdict, what: String) -> Self {
        Self {
            verdict,
            proxy: Some(proxy.to_owned()),
            bundle: None,
            ca: Some(ca.to_owned()),
            what,
        }
    }

    pub(crate) fn blind(proxy: &str, what: &str) -> Self {
        Self {
            verdict: Verdict::Unknown,
            proxy: Some(proxy.to_owned()),
            bundle: None,
            ca: None,
            what: what.to_owned(),
        }
    }

    pub(crate) fn of_bundle(self, bundle: Option<&str>) -> Self {
        Self {
            bundle: bundle.map(str::to_owned),
            ..self
        }
    }
}
