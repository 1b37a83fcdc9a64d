//! How something is, and how all of it is.

use mtls_watch_core::terms::{Finding, Status};

/// How something is, the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// It concerns nobody now.
    Note,
    Ok,
    /// It could not be seen.
    Unseen,
    /// It works, and will not for long, or not everywhere.
    Warning,
    Broken,
}

impl Mark {
    /// What a finding of a proxy's own certificate means: whether somebody refuses it.
    pub(crate) const fn of_finding(finding: Finding) -> Self {
        match finding {
            Finding::ClientAuthMissing
            | Finding::ServerAuthMissing
            | Finding::DigitalSignatureMissing
            | Finding::CertSignMissing
            | Finding::CaFlagMissing
            | Finding::ValidityReversed
            | Finding::CriticalExtensionUnknown
            | Finding::RotationRejected
            | Finding::SecretWarming
            | Finding::RevokedOwn => Self::Broken,
            finding => match Status::of_finding(finding) {
                Status::Ok => Self::Note,
                Status::Warning | Status::Critical => Self::Warning,
                _ => Self::Broken,
            },
        }
    }

    /// The sign before a line, in its colour if that is wanted.
    pub(crate) fn sign(self, in_colour: bool) -> String {
        let (sign, colour) = match self {
            Self::Note => ("·", 2),
            Self::Ok => ("✔", 32),
            Self::Unseen => ("?", 36),
            Self::Warning => ("!", 33),
            Self::Broken => ("✖", 31),
        };
        match in_colour {
            true => format!("\u{1b}[{colour}m{sign}\u{1b}[0m"),
            false => sign.to_owned(),
        }
    }
}

/// How it is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Sound,
    /// It works, and will not for long, or not everywhere.
    WillBreak,
    Broken,
    /// What would decide could not be seen.
    Unknown,
}

impl Outcome {
    /// The last line of a report.
    pub(crate) fn line(self, in_colour: bool) -> String {
        let (mark, words) = match self {
            Self::Sound => (Mark::Ok, "nothing that was seen is wrong"),
            Self::WillBreak => (
                Mark::Warning,
                "it works, and will not for long or not everywhere",
            ),
            Self::Broken => (Mark::Broken, "it is broken"),
            Self::Unknown => (Mark::Unseen, "what decides could not be seen"),
        };
        format!("{} {words}", mark.sign(in_colour))
    }

    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Sound => crate::GOOD,
            Self::WillBreak | Self::Broken => crate::FOUND,
            Self::Unknown => crate::UNREADABLE,
        }
    }
}
