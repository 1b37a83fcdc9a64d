//! What the module does to the headers of a request and its response.

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{CONTINUE, Headers, Proxy, Worker};
use crate::pki::{Certificate, ExtendedKeyUsage, Leaf};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";
const XFCC: &str = "x-forwarded-client-cert";
const FLAGS: &str = r#"{"flag": {"request_header": "x-peer", "response_header": "x-peer-seen"}}"#;

fn header(name: &str, value: &str) -> Headers {
    vec![(name.to_owned(), value.as_bytes().to_vec())]
}

/// The values of a header.
fn values(headers: &Headers, name: &str) -> Vec<String> {
    let values = headers.iter().filter(|(known, _)| known == name);
    values
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// The headers of a request as the application gets it.
fn forwarded(worker: &mut Worker, peer: &Attributes, headers: Headers) -> Result<Headers> {
    let request = worker.open(peer)?;
    assert_eq!(worker.request_headers(request, headers)?, CONTINUE);
    let headers = worker.stream(request).request_headers.clone();
    worker.finish(request)?;
    Ok(headers.unwrap_or_default())
}

#[test]
fn the_flag_says_how_the_client_stands() -> Result<()> {
    let client = Leaf::new(PAY)
        .usages(&[ExtendedKeyUsage::ServerAuth])
        .sign();
    let mut worker = Proxy::new().worker(FLAGS)?;
    let request = worker.open(&Attributes::http().client(&client))?;
    worker.request_headers(request, Vec::new())?;
    worker.response_headers(request, Vec::new())?;
    let stream = worker.finish(request)?;
    let flag = ["critical; client_auth_missing"];
    assert_eq!(
        values(&stream.request_headers.unwrap_or_default(), "x-peer"),
        flag
    );
    assert_eq!(
        values(&stream.response_headers.unwrap_or_default(), "x-peer-seen"),
        flag
    );
    Ok(())
}

#[test]
fn a_flag_from_outside_does_not_stand() -> Result<()> {
    let certified = Attributes::http().client(&Certificate::workload(PAY));
    let mut worker = Proxy::new().worker(FLAGS)?;
    for peer in [certified, Attributes::http()] {
        let headers = forwarded(&mut worker, &peer, header("x-peer", "forged"))?;
        let flags = values(&headers, "x-peer");
        assert!(
            flags.len() <= 1 && !flags.contains(&"forged".into()),
            "{flags:?}"
        );
    }
    Ok(())
}

#[test]
fn a_name_that_applications_take_for_the_flag_does_not_stand() -> Result<()> {
    const FLAG: &str = r#"{"flag": {"request_header": "x-mtls-status"}}"#;
    let peer = Attributes::http().client(&Certificate::workload(PAY));
    let mut worker = Proxy::new().worker(FLAG)?;
    let mut sent = header("x_mtls-status", "forged");
    sent.extend(header("x_mtls_status", "forged"));
    sent.extend(header("x-mtls", "an application's"));
    let headers = forwarded(&mut worker, &peer, sent)?;
    assert_eq!(values(&headers, "x-mtls-status"), ["ok"]);
    assert_eq!(values(&headers, "x-mtls"), ["an application's"]);
    assert_eq!(headers.len(), 2, "{headers:?}");
    Ok(())
}

#[test]
fn no_flag_is_set_unless_asked_for() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let peer = Attributes::http().client(&Certificate::workload(PAY));
    let sent = header("accept", "*/*");
    assert_eq!(forwarded(&mut worker, &peer, sent.clone())?, sent);
    Ok(())
}

/// Certificates make for 10 KB of header that no application reads.
#[test]
fn certificates_are_taken_out_of_the_forwarded_element() -> Result<()> {
    let client = Certificate::workload(PAY);
    let pem = client.url_encoded_pem();
    let digest = client.digest();
    let own = format!("By=spiffe://d/me;Hash={digest}");
    let earlier = "By=spiffe://d/gateway;Hash=00;URI=spiffe://d/them";
    let element = format!("{own};Cert=\"{pem}\";Chain=\"{pem}\";Subject=\"\";URI={PAY}");
    let whole = format!("{earlier},{element}");
    let stripped = format!("{earlier},{own};Subject=\"\";URI={PAY}");

    for (configuration, expected) in [
        ("", &stripped),
        (r#"{"strip_xfcc_certificates": false}"#, &whole),
    ] {
        let mut worker = Proxy::new().worker(configuration)?;
        let peer = Attributes::http().client(&client);
        // Twice: the second request goes by what is remembered of the first.
        for _ in 0..2 {
            let headers = forwarded(&mut worker, &peer, header(XFCC, &whole))?;
            assert_eq!(values(&headers, XFCC), [expected.as_str()]);
        }
    }
    Ok(())
}
