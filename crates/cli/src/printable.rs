//! Texts of others on a terminal.

use mtls_watch_core::report::is_invisible;

/// What a peer wrote into its certificate, or another program into its reply, must not move the cursor of whoever reads
/// it, nor change the order in which it is shown, nor be invisible: as in the log.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || is_invisible(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}
