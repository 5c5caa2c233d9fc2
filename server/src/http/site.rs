//! On whose behalf a request comes: whether the node is called by a name that is its own, and
//! whether the page that makes a browser ask may do so. Must never let a page of another site read,
//! write or set the node to work, nor turn away a client that is no browser for what it did not say.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN, REFERER, USER_AGENT};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::error::ApiError;

/// What a node is called, and whose pages may ask it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sites {
    /// In lower case; `*` is any, `*.` and an end are all names below it.
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
}

impl Sites {
    /// Of a node that is called by these names, beside addresses and names of this machine.
    pub(crate) fn new(
        hosts: impl IntoIterator<Item = String>,
        origins: impl IntoIterator<Item = String>,
    ) -> Self {
        let lower = |text: String| text.to_ascii_lowercase();
        Self {
            hosts: hosts.into_iter().map(lower).collect(),
            origins: origins.into_iter().map(lower).collect(),
        }
    }

    /// Whether a page that is asked for by this name is this node's. An address cannot be made to
    /// lead elsewhere.
    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok() {
            return true;
        }
        if host == LOCAL || host.ends_with(".localhost") {
            return true;
        }
        let below = |pattern: &str| match pattern.strip_prefix('*') {
            Some("") => true,
            Some(end) => host.ends_with(end) && host.len() > end.len(),
            None => pattern == host,
        };
        self.hosts.iter().any(|pattern| below(pattern))
    }

    fn is_allowed(&self, origin: &str) -> bool {
        self.origins.contains("*") || self.origins.contains(&origin.to_ascii_lowercase())
    }

    /// What is wrong with a request, if anything; the origin to be told that it may read the answer.
    pub(crate) fn judge(&self, request: &Request) -> Result<Option<HeaderValue>, ApiError> {
        let host = host(request)?;
        if let Some(host) = &host
            && !self.is_ours(host.host())
        {
            return Err(ApiError::UnknownHost(host.host().to_owned()));
        }
        let headers = request.headers();
        let site = text(headers, &SEC_FETCH_SITE);
        let own = |other: &str| {
            let other = other.parse::<axum::http::Uri>().ok();
            let other = other.as_ref().and_then(|other| other.authority());
            host.as_ref()
                .is_some_and(|host| other.is_some_and(|other| is_same(host, other)))
        };
        if let Some(origin) = headers.get(&ORIGIN) {
            let said = origin.to_str().unwrap_or_default();
            if self.is_allowed(said) {
                return Ok(Some(origin.clone()));
            }
            // A page of this node's own.
            if own(said) && site.is_none_or(|site| site == "same-origin") {
                return Ok(None);
            }
            return Err(ApiError::OtherSite(said.to_owned()));
        }
        match site {
            Some("same-origin" | "none") => return Ok(None),
            Some(site) => return Err(ApiError::OtherSite(site.to_owned())),
            None => {}
        }
        // Browsers that say neither.
        if let Some(page) = text(headers, &REFERER)
            && !own(page)
        {
            return Err(ApiError::OtherSite(page.to_owned()));
        }
        let browser = text(headers, &USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"));
        if browser && !request.method().is_safe() && is_simple(text(headers, &CONTENT_TYPE)) {
            return Err(ApiError::OtherSite("a form".to_owned()));
        }
        Ok(None)
    }
}

/// What the node is called; none where a client of old says nothing.
fn host(request: &Request) -> Result<Option<Authority>, ApiError> {
    let mut told = request.headers().get_all(HOST).iter();
    let (first, second) = (told.next(), told.next());
    if second.is_some() {
        return Err(ApiError::Parameter("more than one Host header".to_owned()));
    }
    if let Some(authority) = request.uri().authority() {
        // It wins over the header, which says the same of an honest client.
        return Ok(Some(authority.clone()));
    }
    let Some(first) = first else {
        return match request.version() {
            Version::HTTP_09 | Version::HTTP_10 => Ok(None),
            _ => Err(ApiError::Parameter("the Host header is missing".to_owned())),
        };
    };
    let parsed = first.to_str().ok().and_then(|text| text.parse().ok());
    let authority: Option<Authority> = parsed;
    authority
        .filter(|authority| !authority.as_str().contains('@'))
        .map(Some)
        .ok_or_else(|| ApiError::Parameter("the Host header is no host and port".to_owned()))
}

fn is_same(one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().unwrap_or(80);
    one.host().eq_ignore_ascii_case(other.host())
        && (port(one) == port(other) || one.port().is_none() || other.port().is_none())
}

/// What a form of any page can send without asking first.
fn is_simple(content_type: Option<&str>) -> bool {
    let media = content_type.unwrap_or_default().split(';').next();
    let media = media.unwrap_or_default().trim().to_ascii_lowercase();
    matches!(
        media.as_str(),
        "" | "application/x-www-form-urlencoded" | "multipart/form-data" | "text/plain"
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const LOCAL: &str = "localhost";

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn sites() -> Sites {
        let hosts = ["Node-1", "*.db.example"].map(str::to_owned);
        Sites::new(hosts, ["https://board.example:3000".to_owned()])
    }

    fn judged(method: &str, headers: &[(&str, &str)]) -> Result<Option<HeaderValue>, ApiError> {
        let mut request = Request::builder().method(method).uri("/api/v3/query_sql");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sites().judge(&request.body(Body::empty()).expect("a request"))
    }

    #[test]
    fn a_node_answers_to_its_names_and_addresses_and_to_no_others() {
        for host in [
            "127.0.0.1:7440",
            "[::1]:7440",
            "192.0.2.7",
            "localhost:1",
            "LOCALHOST.",
            "x.localhost",
            "node-1:7440",
            "a.db.example",
        ] {
            assert_eq!(judged("GET", &[("host", host)]), Ok(None), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "db.example",
            "evildb.example",
            "node-1.evil.example",
            "2130706433",
        ] {
            let name = ApiError::UnknownHost(host.to_owned());
            assert_eq!(judged("GET", &[("host", host)]), Err(name), "{host}");
        }
        let two = [("host", "localhost"), ("host", "localhost")];
        for odd in [
            &two[..],
            &[],
            &[("host", "a@localhost")],
            &[("host", "a b")],
        ] {
            let refused = judged("GET", odd).expect_err("odd");
            assert!(matches!(refused, ApiError::Parameter(_)), "{odd:?}");
        }
        assert!(Sites::new(["*".to_owned()], []).is_ours("evil.example"));
    }

    #[test]
    fn pages_of_other_sites_are_refused_whatever_they_send() {
        let host = ("host", "localhost:7440");
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:8080")],
            &[
                ("origin", "http://localhost:7440"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("referer", "http://evil.example/page")],
            &[
                ("user-agent", "Mozilla/5.0"),
                ("content-type", "text/plain; x=y"),
            ],
            &[("user-agent", "Mozilla/5.0")],
        ] {
            let headers = [&[host], headers].concat();
            let refused = judged("POST", &headers).expect_err("another site");
            assert!(matches!(refused, ApiError::OtherSite(_)), "{headers:?}");
        }
    }

    #[test]
    fn clients_that_are_no_browsers_and_own_and_allowed_pages_are_let_in() {
        let host = ("host", "localhost:7440");
        for headers in [
            &[
                ("user-agent", "curl/8"),
                ("content-type", "application/x-www-form-urlencoded"),
            ][..],
            &[
                ("user-agent", "Telegraf/1.30"),
                ("content-type", "text/plain"),
            ],
            &[("user-agent", "influxdb-client-python/1.40")],
            &[
                ("user-agent", "Grafana/11"),
                ("content-type", "application/x-www-form-urlencoded"),
            ],
            &[
                ("user-agent", "Mozilla/5.0"),
                ("content-type", "application/json"),
            ],
            &[
                ("origin", "http://localhost:7440"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("referer", "http://localhost:7440/")],
        ] {
            let headers = [&[host], headers].concat();
            assert_eq!(judged("POST", &headers), Ok(None), "{headers:?}");
        }
        let allowed = "https://board.example:3000";
        let headers = [host, ("origin", allowed), ("sec-fetch-site", "cross-site")];
        let origin = HeaderValue::from_static(allowed);
        assert_eq!(judged("POST", &headers), Ok(Some(origin)));
    }
}
