//! `mtls-watch explain`.

use std::ffi::{OsStr, OsString};

use mtls_watch_core::handshake;

use crate::{Error, GOOD, Output, Side, input, read};

/// Explain why a handshake failed, from the text that says so: reason, layer, holder, meaning, what to do.
///
/// Reads Envoy's transport failure reason, and the errors of the TLS stacks that people meet beside it (docs/explain.md).
/// Several lines are taken together: the server's cause counts more than the alert that its client got.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// On which side of the proxy the peer is: decides whether a refused purpose is clientAuth or serverAuth
    #[arg(long, value_enum, default_value = "inbound")]
    direction: Side,
    /// The text, in any encoding; - for standard input
    // mbedTLS begins with `-0x7780`.
    #[arg(value_name = "TRANSPORT FAILURE REASON", allow_hyphen_values = true)]
    text: OsString,
}

pub(super) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let text = text(&arguments.text)?;
    let failure = handshake::explain(&text, arguments.direction.into())
        .ok_or_else(|| Error::Content("the text is not about a TLS handshake".to_owned()))?;
    let reason = failure.reason;
    Ok(Output::new(
        &format!(
            "reason       {}\nlayer        {}\nholder       {}\nmeaning      {}\nfirst check  {}\nwhat to do   {}",
            reason.as_str(),
            failure.layer_label(),
            failure.holder.as_str(),
            reason.meaning(),
            reason.first_check(),
            failure.hint,
        ),
        GOOD,
    ))
}

/// The text that is meant. What is in no encoding that is known is replaced.
fn text(argument: &OsStr) -> Result<String, Error> {
    if argument != "-" {
        return Ok(argument.to_string_lossy().into_owned());
    }
    let bytes = read("-")?;
    Ok(String::from_utf8_lossy(&input::decode(&bytes)).into_owned())
}
