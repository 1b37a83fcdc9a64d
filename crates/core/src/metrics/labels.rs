//! Values of labels: each type belongs to one key, so that no series can have two of them confused.

use strum::{IntoStaticStr, VariantArray};

use super::{Label, name};
use crate::handshake::{Holder, NO_LAYER, Reason};
use crate::terms::{Direction, Finding, Layer, Security, Source, Status};

/// The value of one label.
trait LabelValue {
    const KEY: Label;

    /// Empty: the series does not have the label, which is the same to Prometheus.
    fn text(&self) -> &str;
}

/// The values of all labels of a metric, in the order of the encoding.
pub trait Labels {
    /// Their keys.
    const KEYS: &'static [Label];

    /// Appends `key=.=value;.;` for each that has a value.
    fn write(&self, series: &mut String);
}

/// Words of closed sets.
macro_rules! words {
    ($($type:ident),*) => {$(
        impl LabelValue for $type {
            const KEY: Label = Label::$type;

            fn text(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}

words!(
    Direction, Layer, Security, Status, Finding, Holder, Reason, Source
);

/// [`NO_LAYER`] where no certificate is concerned.
impl LabelValue for Option<Layer> {
    const KEY: Label = Label::Layer;

    fn text(&self) -> &str {
        self.map_or(NO_LAYER, Layer::as_str)
    }
}

/// Texts that peers and operators choose.
macro_rules! texts {
    ($($(#[$doc:meta])* $type:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $type<'a>(pub &'a str);

        impl LabelValue for $type<'_> {
            const KEY: Label = Label::$type;

            fn text(&self) -> &str {
                self.0
            }
        }
    )*};
}

texts!(
    /// CA that signed the peer's leaf.
    Issuer,
    /// Identity of a peer, or name of a CA.
    Identity,
    /// Name of a secret of this proxy.
    Secret,
    /// A CA of a trust bundle, or above an own certificate.
    Ca,
    /// One of several certificates of a CA: the first 8 hex digits of its SHA-256.
    Certificate,
    /// SPIFFE trust domain of a peer.
    TrustDomain,
    /// Version of the module.
    Version
);

impl LabelValue for Option<Certificate<'_>> {
    const KEY: Label = Label::Certificate;

    fn text(&self) -> &str {
        self.map_or("", |Certificate(digits)| digits)
    }
}

/// Whether a certificate could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReadResult {
    /// It could.
    Ok,
    /// It could not.
    Unreadable,
}

/// Whether a poll of the admin interface told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PollResult {
    /// It did.
    Ok,
    /// It did not.
    Error,
}

impl LabelValue for ReadResult {
    const KEY: Label = Label::Result;

    fn text(&self) -> &str {
        self.into()
    }
}

impl LabelValue for PollResult {
    const KEY: Label = Label::Result;

    fn text(&self) -> &str {
        self.into()
    }
}

/// Tuples of values.
macro_rules! tuples {
    ($(($($value:ident $index:tt),*))*) => {$(
        #[allow(private_bounds)]
        impl<$($value: LabelValue),*> Labels for ($($value,)*) {
            const KEYS: &'static [Label] = &[$($value::KEY),*];

            fn write(&self, series: &mut String) {
                $(write_if_any($value::KEY, self.$index.text(), series);)*
                let _ = series;
            }
        }
    )*};
}

tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

fn write_if_any(key: Label, value: &str, series: &mut String) {
    if !value.is_empty() {
        write_label(key, value, series);
    }
}

/// Appends one label in Istio's encoding.
pub fn write_label(key: Label, value: &str, series: &mut String) {
    series.push_str(key.as_str());
    series.push_str("=.=");
    series.push_str(&name::label_value(value));
    series.push_str(";.;");
}
