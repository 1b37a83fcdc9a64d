//! Headers that carry the flag. What comes from outside never stands under their name, nor under one that an
//! application takes for it.

use crate::host::Host;

/// Sets the request's flag header, or removes it.
pub(super) fn set_on_request(host: &dyn Host, name: &str, flag: Option<&str>) {
    if has_aliases(name) {
        for alias in aliases(name, host.request_header_names()) {
            host.set_request_header(&alias, None);
        }
    }
    host.set_request_header(name, flag.map(str::as_bytes));
}

/// The same of the response.
pub(super) fn set_on_response(host: &dyn Host, name: &str, flag: Option<&str>) {
    if has_aliases(name) {
        for alias in aliases(name, host.response_header_names()) {
            host.set_response_header(&alias, None);
        }
    }
    host.set_response_header(name, flag.map(str::as_bytes));
}

fn has_aliases(name: &str) -> bool {
    name.contains(['-', '_'])
}

/// Other names that are the same to CGI and what follows it (WSGI, PHP): there a header is a variable
/// without hyphens and in capitals, `HTTP_X_PEER`.
fn aliases(name: &str, present: Vec<Vec<u8>>) -> impl Iterator<Item = String> {
    let is_alias = move |other: &str| other != name && variable(other).eq(variable(name));
    let present = present.into_iter().map(String::from_utf8);
    present
        .filter_map(Result::ok)
        .filter(move |other| is_alias(other))
}

fn variable(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| match byte {
        b'-' => b'_',
        letter => letter.to_ascii_lowercase(),
    })
}
