//! The connection to an endpoint: the certificates that are trusted, and the proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::Proxy;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};

use super::address::Address;
use super::tls::TlsConnector;
use crate::config::JudgeSettings;
use crate::{Error, Result, secrets};

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// What asks the endpoint at `address`.
///
/// # Errors
/// If a file of certificates or a proxy cannot be used.
pub fn agent(address: &Address, settings: &JudgeSettings) -> Result<ureq::Agent> {
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.trim().is_empty());
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs_f64(settings.timeout)))
        .max_idle_connections_per_host(settings.concurrency)
        .proxy(proxy(address, variable)?)
        .build();
    let roots = if address.is_secure() { roots(settings, variable)? } else { None };
    let Some(tls) = roots.and_then(TlsConnector::new) else { return Ok(config.new_agent()) };
    let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
    Ok(ureq::Agent::with_parts(config, connector.chain(tls), DefaultResolver::default()))
}

/// Those whom a certificate is trusted by: of `judge.ca_file`, of `SSL_CERT_FILE` and `SSL_CERT_DIR`,
/// or the system's; none where there are none of these, which means those that are built in.
fn roots(
    settings: &JudgeSettings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Vec<CertificateDer<'static>>>> {
    if !settings.ca_file.is_empty() {
        return certificates("judge.ca_file", Path::new(&settings.ca_file)).map(Some);
    }
    let given: Vec<(&str, PathBuf)> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| Some((name, PathBuf::from(variable(name)?))))
        .collect();
    if !given.is_empty() {
        let mut all = Vec::new();
        for (name, path) in given {
            all.extend(certificates(name, &path)?);
        }
        return Ok(Some(all));
    }
    let system = SYSTEM.iter().map(Path::new).filter(|path| path.is_file());
    Ok(system.filter_map(|path| certificates("the system", path).ok()).next())
}

/// The certificates of a file, or of the files of a folder. `name` is what gave the path.
fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        Ok(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect())
    };
    let all = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(Error::io(path, "read"))?;
        let files = entries.filter_map(|it| Some(it.ok()?.path())).filter(|it| it.is_file());
        files.filter_map(|it| read(&it).ok()).flatten().collect()
    } else {
        read(path)?
    };
    if all.is_empty() {
        return Err(Error::file(
            path,
            format!(
                "expected certificates in PEM (-----BEGIN CERTIFICATE-----), found none; {name} names it"
            ),
        ));
    }
    Ok(all)
}

/// The proxy for an endpoint: of `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, else of `ALL_PROXY`;
/// none for what `NO_PROXY` lists and for this machine.
fn proxy(address: &Address, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let either = |name: &str| {
        let lower = name.to_ascii_lowercase();
        variable(&lower).map(|it| (lower, it)).or_else(|| Some((name.to_owned(), variable(name)?)))
    };
    let (host, port) = address.host();
    let is_local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback() || it.is_unspecified());
    let listed = either("NO_PROXY").map(|it| it.1).unwrap_or_default();
    if is_local || is_listed(&listed, &host, port) {
        return Ok(None);
    }
    let own = if address.is_secure() { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some((name, url)) = either(own).or_else(|| either("ALL_PROXY")) else { return Ok(None) };
    secrets::keep_user(&url);
    // The value may hold a password and is not shown.
    let refused = |why: &str| {
        Err(Error::usage(format!(
            "{name}: expected a proxy such as http://proxy:3128, {why}; correct it, or list {host} in \
             NO_PROXY"
        )))
    };
    if url.trim().to_ascii_lowercase().starts_with("socks") {
        return refused("found a SOCKS proxy, through which exalign does not ask");
    }
    match Proxy::new(url.trim()) {
        Ok(proxy) => Ok(Some(proxy)),
        Err(_) => refused("found something else"),
    }
}

/// Whether a list of `NO_PROXY` names a host: itself, a domain that it is in, an address, a network
/// such as 10.0.0.0/8, each with a port or without; `*` is all.
fn is_listed(list: &str, host: &str, port: Option<&str>) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|it| !it.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" || is_in_network(host, &entry) {
            return true;
        }
        let (name, only) = match entry.rsplit_once(':') {
            // An address of version 6 has colons of its own.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('*').trim_start_matches('.');
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let is_host = host == name || host.ends_with(&format!(".{name}"));
        is_host && !name.is_empty() && only.is_none_or(|only| Some(only) == port)
    })
}

/// Whether a host is an address of a network written as `10.0.0.0/8`.
fn is_in_network(host: &str, network: &str) -> bool {
    use std::net::IpAddr;
    let inside = || -> Option<bool> {
        let (address, bits) = network.split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        match (address.parse().ok()?, host.parse().ok()?) {
            (IpAddr::V4(net), IpAddr::V4(host)) => {
                let shift = 32_u32.checked_sub(bits)?;
                let prefix = |it: std::net::Ipv4Addr| it.to_bits().checked_shr(shift).unwrap_or(0);
                Some(prefix(net) == prefix(host))
            }
            (IpAddr::V6(net), IpAddr::V6(host)) => {
                let shift = 128_u32.checked_sub(bits)?;
                let prefix = |it: std::net::Ipv6Addr| it.to_bits().checked_shr(shift).unwrap_or(0);
                Some(prefix(net) == prefix(host))
            }
            _ => Some(false),
        }
    };
    inside().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_proxy_lists_is_asked_directly() {
        for (list, host, port, listed) in [
            ("", "h", None, false),
            ("*", "h", None, true),
            ("h", "h", Some("80"), true),
            ("example.org", "judge.example.org", None, true),
            (".example.org", "judge.example.org", None, true),
            ("*.example.org", "judge.example.org", None, true),
            ("example.org", "badexample.org", None, false),
            ("a, H:8000", "h", Some("8000"), true),
            ("h:8000", "h", Some("8001"), false),
            ("10.0.0.0/8", "10.1.2.3", None, true),
            ("10.0.0.0/8", "11.1.2.3", None, false),
            ("fd00::/8", "fd00::1", None, true),
            ("[fd00::1]:80", "fd00::1", Some("80"), true),
            ("fd00::1", "fd00::1", None, true),
        ] {
            assert_eq!(is_listed(list, host, port), listed, "{list} {host} {port:?}");
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_scheme_and_this_machine_has_none() {
        let ask = |url: &str, variables: &[(&str, &str)]| {
            let variables: Vec<(String, String)> =
                variables.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect();
            let variable =
                move |name: &str| Some(variables.iter().find(|it| it.0 == name)?.1.clone());
            proxy(&Address::parse(url).unwrap(), variable)
                .map(|it| it.map(|it| it.host().to_owned()))
                .map_err(|error| error.to_string())
        };
        let both = [("HTTP_PROXY", "http://plain:1"), ("https_proxy", "http://me:secret@tls:2")];
        assert_eq!(ask("http://h/v1", &both), Ok(Some("plain".to_owned())));
        assert_eq!(ask("https://h/v1", &both), Ok(Some("tls".to_owned())));
        assert_eq!(ask("https://h/v1", &[("ALL_PROXY", "all:3")]), Ok(Some("all".to_owned())));
        assert_eq!(ask("https://h/v1", &[("HTTP_PROXY", "http://plain:1")]), Ok(None));
        for local in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert_eq!(ask(local, &both), Ok(None), "{local}");
        }
        assert_eq!(ask("http://h/v1", &[both[0], ("no_proxy", "h")]), Ok(None));
        insta::assert_snapshot!(ask("https://h/v1", &[("ALL_PROXY", "socks5://me:secret@s")]).unwrap_err(), @"ALL_PROXY: expected a proxy such as http://proxy:3128, found a SOCKS proxy, through which exalign does not ask; correct it, or list h in NO_PROXY");
        insta::assert_snapshot!(ask("https://h/v1", &[("HTTPS_PROXY", "ftp://me:secret@s")]).unwrap_err(), @"HTTPS_PROXY: expected a proxy such as http://proxy:3128, found something else; correct it, or list h in NO_PROXY");
    }

    #[test]
    fn a_file_without_certificates_is_named_with_what_gave_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let error = certificates("SSL_CERT_FILE", &path).unwrap_err().to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        insta::assert_snapshot!(error, @"ca.pem: expected certificates in PEM (-----BEGIN CERTIFICATE-----), found none; SSL_CERT_FILE names it");
    }
}
