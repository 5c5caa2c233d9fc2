//! Where a client of a secondary is to send rows instead. Pure; must never make up an address that
//! nobody said.

use std::net::SocketAddr;

/// The URL of the primary's HTTP, as far as it is known: `told` is what the primary says, a URL or
/// where it listens; `upstream` is the `host:port` that the secondary follows, which `is_primary`
/// says is the primary itself.
pub(crate) fn primary_url(told: &str, upstream: &str, is_primary: bool) -> Option<String> {
    if told.contains("://") {
        return Some(told.to_owned());
    }
    let listens: SocketAddr = told.parse().ok()?;
    let ip = listens.ip().to_canonical();
    if !ip.is_unspecified() && !ip.is_loopback() {
        return Some(format!("http://{listens}"));
    }
    // Nobody elsewhere could use that address; the host by which the primary is reached is known.
    let (host, _) = upstream.rsplit_once(':')?;
    is_primary.then(|| format!("http://{host}:{}", listens.port()))
}

/// The host that a URL names.
pub(crate) fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host_port = rest[..end].rsplit('@').next()?;
    let host = match host_port.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => host_port,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_primary_says_or_how_it_is_reached() {
        for (told, upstream, is_primary, url) in [
            (
                "https://a.example",
                "p:7441",
                true,
                Some("https://a.example"),
            ),
            (
                "https://a.example",
                "relay:7441",
                false,
                Some("https://a.example"),
            ),
            (
                "10.0.0.1:7440",
                "relay:7441",
                false,
                Some("http://10.0.0.1:7440"),
            ),
            (
                "0.0.0.0:7440",
                "p.example:7441",
                true,
                Some("http://p.example:7440"),
            ),
            (
                "[::]:7440",
                "[fd00::1]:7441",
                true,
                Some("http://[fd00::1]:7440"),
            ),
            (
                "127.0.0.1:7460",
                "127.0.0.1:9",
                true,
                Some("http://127.0.0.1:7460"),
            ),
            ("0.0.0.0:7440", "relay:7441", false, None),
            ("", "p:7441", true, None),
            ("nonsense", "p:7441", true, None),
        ] {
            let found = primary_url(told, upstream, is_primary);
            assert_eq!(found.as_deref(), url, "{told} {upstream}");
        }
    }

    #[test]
    fn the_host_of_a_url_is_what_clients_call_it_by() {
        for (url, host) in [
            ("https://a.example", Some("a.example")),
            ("http://a.example:7440/x?y=z:1", Some("a.example")),
            ("http://[fd00::1]:7440", Some("[fd00::1]")),
            ("http://[fd00::1]", Some("[fd00::1]")),
            ("https://", None),
            ("10.0.0.1:7440", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
